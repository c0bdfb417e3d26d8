// The small marks that several views share: severities, expressions, times.
import type { JSX } from 'preact';
import { now } from '../model/clock.js';
import { readCel, type CelToken } from '../model/cel.js';
import { ago, clockOf, dateOf, fullTime, relative } from '../model/format.js';
import type { DeliveryState } from '../model/filter.js';
import { Icon, type IconName } from './icons.js';

export function Severity({ level }: { level: string }): JSX.Element {
  return <span class={`severity sev-${level}`}>{level}</span>;
}

export function Action({ name }: { name: string }): JSX.Element {
  return <span class={`action act-${name}`}>{name}</span>;
}

const deliveryWords: Record<DeliveryState, { icon: IconName; text: string; title: string }> = {
  delivered: { icon: 'check', text: 'delivered', title: 'every receiver took it' },
  retrying: { icon: 'retry', text: 'retrying', title: 'a receiver did not take it yet; it is sent again' },
  failed: { icon: 'fail', text: 'failed', title: 'a receiver refused it for good' },
  pending: { icon: 'wait', text: 'pending', title: 'no attempt is recorded yet, or no receiver wants it' },
};

export function DeliveryMark({ state }: { state: DeliveryState }): JSX.Element {
  const w = deliveryWords[state];
  return (
    <span class={`delivery del-${state}`} title={w.title}>
      <Icon name={w.icon} />
      <span class="delivery-text">{w.text}</span>
    </span>
  );
}

const read = new Map<string, CelToken[]>();
const readMax = 2000;

function tokensOf(text: string): CelToken[] {
  let tokens = read.get(text);
  if (!tokens) {
    if (read.size >= readMax) read.clear();
    read.set(text, (tokens = readCel(text)));
  }
  return tokens;
}

/** An expression, coloured. */
export function Cel({ text }: { text: string }): JSX.Element {
  return (
    <code class="cel">
      {tokensOf(text.trim()).map((t) => (t.kind === 'plain' ? t.text : <span class={`cel-${t.kind}`}>{t.text}</span>))}
    </code>
  );
}

/** "12 s ago" that keeps counting. */
export function Ago({ at }: { at: number }): JSX.Element {
  return <>{relative(at, now.value)}</>;
}

/** Clock for today, date and clock for another day; the whole on hover. */
export function Instant({ time, places = 0 }: { time: string; places?: number }): JSX.Element {
  const today = new Date(now.value).toISOString().slice(0, 10);
  return (
    <time dateTime={time} title={`${fullTime(time)} UTC`}>
      {dateOf(time) !== today && <span class="date">{dateOf(time)} </span>}
      {clockOf(time, places)}
    </time>
  );
}

/** A watermark, and how far it is behind the clock. */
export function Watermark({ time, none }: { time: string | null; none: string }): JSX.Element {
  if (time === null) return <span class="unit">{none}</span>;
  const behind = now.value - Date.parse(time);
  return <><Instant time={time} /><span class="sub">{behind > 0 ? `${ago(behind)} behind` : ''}</span></>;
}
