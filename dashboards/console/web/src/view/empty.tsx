// What to do where there is nothing to show yet.
import type { ComponentChildren, JSX } from 'preact';
import type { Field, Overview, Stream } from '../model/api.js';
import { count, plural } from '../model/format.js';
import { details } from '../model/live.js';
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

function sample(s: Stream): string {
  const fields: Field[] = s.fields ?? [{ name: s.key || 'id', type: 'string' }];
  const value = ({ name, type, layout = '' }: Field): string | number | boolean => {
    if (type === 'timestamp') return layout.startsWith('unix') ? unixNow(layout) : new Date().toISOString().slice(0, 19) + 'Z';
    if (type === 'bool') return false;
    if (type === 'int64') return 1;
    return type === 'double' ? 1.5 : type.startsWith('decimal') ? 12 : `${name}-1`;
  };
  if (s.format === 'csv') return fields.map((f) => String(value(f))).join(',');
  const event: Record<string, unknown> = {};
  for (const f of fields) {
    const path = (f.from || f.name).split('.');
    let at = event;
    for (const part of path.slice(0, -1)) at = (at[part] ??= {}) as Record<string, unknown>;
    at[path[path.length - 1] ?? f.name] = value(f);
  }
  return JSON.stringify(event);
}

function unixNow(layout: string): number {
  const s = Math.floor(Date.now() / 1000);
  return s * ({ unix_ms: 1e3, unix_us: 1e6, unix_ns: 1e9 }[layout] ?? 1);
}

export function NoStreams(): JSX.Element {
  return (
    <Empty title="No stream is declared">
      <p>A stream says which topic to read and what its events look like. Add one to <code>weir.yaml</code> and start Weir again:</p>
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
      <Command text={`echo '${sample(s)}' | kcat -P -b ${kafka()} -t ${s.topic}`} />
      {o.rules.length === 0 && <p>No rule watches {o.streams.length === 1 ? 'it' : 'them'} either: see <a href="#/rules">Rules</a>.</p>}
    </Empty>
  );
}

export function NoRules({ o }: { o: Overview }): JSX.Element {
  const s = details.value[0] ?? o.streams[0];
  const alias = s?.alias ?? 'tx';
  const key = s?.key || 'card';
  return (
    <Empty title="No rules are loaded">
      <p>Put a file such as <code>rules/first.yaml</code> beside <code>weir.yaml</code> (its key <code>rules:</code> names the folder), check it with <code>weir check-config</code>, and start Weir again:</p>
      <Command text={`id: busy-${key}\nstream: ${s?.name ?? 'transactions'}\nwhen: last("1h").by(${alias}.${key}).count() >= 4\naction: review\nseverity: medium\nscore: 40\nmode: live\nmessage: '"${key} " + ${alias}.${key} + " is busy"'`} />
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
