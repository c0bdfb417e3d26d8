// The overview: what flows in, what is caught, what went out.
import type { JSX } from 'preact';
import { signal } from '@preact/signals';
import { useState } from 'preact/hooks';
import type { Overview, Stream } from '../model/api.js';
import { now } from '../model/clock.js';
import { ago, bytes, clockOf, count, plural, rate, span } from '../model/format.js';
import { overview } from '../model/live.js';
import { alertSeries } from '../model/rates.js';
import { href } from '../model/route.js';
import { RateChart, type Readout } from './chart.js';

/** With more streams than this the tiles are small and stand in two rows, or three. */
const largeTiles = 4;
const smallTiles = 12;

/** Whether there is room for axes. */
const roomy = signal(true);
const wide = matchMedia('(min-width: 761px)');
const look = (): void => void (roomy.value = wide.matches);
wide.addEventListener('change', look);
look();

export function Strip(): JSX.Element {
  const o = overview.value;
  const n = o?.streams.length ?? 0;
  const dense = n > largeTiles;
  return (
    <section class={`strip ${dense ? 'is-dense' : ''} ${n > smallTiles ? 'is-crowded' : ''}`} aria-label="Overview">
      <div class="tiles" tabIndex={dense ? 0 : undefined} role="group" aria-label="Events per second by stream">
        {o === null && [0, 1, 2].map((i) => <div key={i} class="tile is-blank" />)}
        {o?.streams.map((s) => <StreamTile key={s.name} stream={s} dense={dense} />)}
        {o?.streams.length === 0 && <p class="tile note">No stream is declared: add one under <code>streams:</code> in weir.yaml.</p>}
      </div>
      <AlertTile o={o} />
      <Ledger o={o} />
    </section>
  );
}

function StreamTile({ stream: s, dense }: { stream: Stream; dense: boolean }): JSX.Element {
  const [readout, setReadout] = useState<Readout | null>(null);
  return (
    <div class="tile">
      <div class="tile-head">
        <a href={href('streams', s.name)} class="tile-name" title={`topic ${s.topic}, ${plural(s.partitions, 'partition')}`}>{s.name}</a>
        <Figure value={rate(readout ? readout.value : s.events_per_second)} unit={dense || !roomy.value ? '/s' : 'events/s'} />
      </div>
      <RateChart series={s.name} colour="accent" axes={!dense && roomy.value} onRead={setReadout} label={`${s.name}: events per second over the last five minutes, now ${rate(s.events_per_second)}`} />
      <div class="tile-foot">{readout ? <>at {new Date(readout.at * 1000).toISOString().slice(11, 19)} UTC</> : <Flow s={s} />}</div>
    </div>
  );
}

function Flow({ s }: { s: Stream }): JSX.Element {
  if (s.watermark === null) return <span>no events yet</span>;
  const behind = now.value - Date.parse(s.watermark);
  return (
    <>
      <span title="Event time up to which the stream is complete, UTC">
        watermark <b>{behind > 864e5 ? s.watermark.slice(0, 10) : clockOf(s.watermark, 0)}</b>
      </span>
      <span title="Records that the engine has still to decide">
        lag <b>{count(s.lag)}</b>
      </span>
    </>
  );
}

function Figure({ value, unit }: { value: string; unit: string }): JSX.Element {
  return (
    <span class="tile-figure">
      <b>{value}</b> <span class="unit">{unit}</span>
    </span>
  );
}

function AlertTile({ o }: { o: Overview | null }): JSX.Element {
  const [readout, setReadout] = useState<Readout | null>(null);
  const value = readout?.value ?? o?.alerts.per_minute ?? 0;
  return (
    <div class="tile tile-alerts">
      <div class="tile-head">
        <span class="tile-name">Alerts</span>
        <Figure value={count(value)} unit="per min" />
      </div>
      <RateChart series={alertSeries} colour="catch" axes={roomy.value} floor={2} onRead={setReadout} label={`alerts per minute over the last five minutes, now ${value}`} />
      <div class="tile-foot">
        {readout ? <>at {new Date(readout.at * 1000).toISOString().slice(11, 19)} UTC</> : <><span>in all <b>{count(o?.alerts.total ?? 0)}</b></span><span>charts: UTC</span></>}
      </div>
    </div>
  );
}

function Ledger({ o }: { o: Overview | null }): JSX.Element {
  const d = o?.deliveries ?? { delivered: 0, retrying: 0, failed: 0 };
  const behind = o && o.sql.lag > 0 ? `${count(o.sql.lag)} rows` : 'nothing';
  return (
    <dl class="ledger">
      <Item name="Decisions" value={count(o?.decisions.total ?? 0)} title="Records in weir.decisions" />
      <Item name="Delivered" value={count(d.delivered)} title="Notifications that a receiver took" />
      <Item name="Retrying" value={count(d.retrying)} tone={d.retrying > 0 ? 'warn' : ''} title="Notifications that a receiver did not take yet" />
      <Item name="Failed" value={count(d.failed)} tone={d.failed > 0 ? 'bad' : ''} title="Notifications that were given up" />
      <Item name="SQL behind" value={behind} note={o && o.sql.lag > 0 ? span(o.sql.age_ms) : ''} title="Records not yet in SQL, and the age of the oldest" />
      <Item name="Log" value={bytes(o?.log.bytes ?? 0)} note={o ? plural(o.log.topics, 'topic') : ''} title="On disk" />
      <Item name="Up" value={o ? ago(now.value - Date.parse(o.started)) : ''} note={o ? `rules ${o.program.slice(0, 8)}` : ''} title={o ? `Since ${o.started}; hash of the rule set ${o.program}` : ''} />
    </dl>
  );
}

function Item({ name, value, note, tone, title }: { name: string; value: string; note?: string; tone?: string; title: string }): JSX.Element {
  return (
    <div class={tone ? `tone-${tone}` : undefined} title={title}>
      <dt>{name}</dt>
      <dd>
        {value}
        {note && <span class="unit"> {note}</span>}
      </dd>
    </div>
  );
}
