// What to do where there is nothing to show yet.
import type { ComponentChildren, JSX } from 'preact';
import type { Overview } from '../model/api.js';
import { count, plural } from '../model/format.js';
import { details } from '../model/live.js';
import { sampleEvent, sampleRule } from '../model/sample.js';
import { Copy } from './clipboard.js';

export function Empty({ title, children }: { title: string; children?: ComponentChildren }): JSX.Element {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

function Command({ text }: { text: string }): JSX.Element {
  return (
    <div class="command">
      <pre><code>{text}</code></pre>
      <Copy text={() => text} label="Copy" />
    </div>
  );
}

/** Where a Kafka client finds this node, unless --kafka-addr says otherwise. */
const kafka = (): string => `${location.hostname || 'localhost'}:9092`;

export function NoStreams(): JSX.Element {
  return (
    <Empty title="No stream is declared">
      <p>A stream says which topic to read and what its events look like. One that fits a file is made by</p>
      <Command text="weir stream infer FILE.csv.gz | weir stream apply -f -" />
      <p>or add it to <code>weir.yaml</code> and start Weir again:</p>
      <Command text={'streams:\n  transactions:\n    topic: transactions\n    format: json\n    as: tx\n    time: ts\n    key: card\n    fields: {id: string, ts: timestamp, card: string, amount: decimal(2)}'} />
    </Empty>
  );
}

export function NoEvents({ o }: { o: Overview }): JSX.Element {
  const s = details.value[0] ?? o.streams[0];
  if (!s) return <NoStreams />;
  return (
    <Empty title="Waiting for the first event">
      <p>{plural(o.streams.length, 'stream')} declared, nothing in {o.streams.length === 1 ? 'it' : 'them'} yet. Load a file of past events:</p>
      <Command text={`weir load FILE.csv.gz --stream ${s.name}`} />
      <p>or send one event with any Kafka client:</p>
      <Command text={`echo '${sampleEvent(s, new Date())}' | kcat -P -b ${kafka()} -t ${s.topic}`} />
      {o.rules.length === 0 && <p>No rule watches {o.streams.length === 1 ? 'it' : 'them'} either: see <a href="#/rules">Rules</a>.</p>}
    </Empty>
  );
}

export function NoRules({ o }: { o: Overview }): JSX.Element {
  return (
    <Empty title="No rules are loaded">
      <p>Put a file such as <code>rules/first.yaml</code> beside <code>weir.yaml</code> (its key <code>rules:</code> names the folder):</p>
      <Command text={sampleRule(details.value[0] ?? o.streams[0])} />
      <p>then check it, and have Weir read it:</p>
      <Command text="weir rule check && weir rule reload" />
    </Empty>
  );
}

export function NoAlerts({ o }: { o: Overview }): JSX.Element {
  const active = o.rules.filter((r) => r.mode === 'live').length;
  if (o.streams.length === 0) return <NoStreams />;
  if (o.streams.every((s) => s.events === 0)) return <NoEvents o={o} />;
  if (o.rules.length === 0) return <NoRules o={o} />;
  return (
    <Empty title="No alerts">
      <p>
        {plural(active, 'live rule')} {active === 1 ? 'watches' : 'watch'} {plural(o.streams.length, 'stream')}; {count(o.streams.reduce((n, s) => n + s.events, 0))} events went by and none raised an alert. New ones appear here by themselves.
      </p>
    </Empty>
  );
}
