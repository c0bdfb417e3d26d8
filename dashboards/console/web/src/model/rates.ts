// Five minutes of rates, one sample a second, for the charts.
import { signal } from '@preact/signals';
import type { Overview } from './api.js';

/** Seconds that the charts show once that long has been watched, and at first. */
export const spanSeconds = 300;
export const spanSecondsMin = 60;
const samplesMax = spanSeconds + 10;
const streamsMax = 200;
/** The series of alerts per minute; no stream can be called so. */
export const alertSeries = ' alerts';

type Sample = number | null;

export interface Rates {
  /** Seconds since the epoch, ascending. */
  times: number[];
  series: Map<string, Sample[]>;
}

let rates: Rates = { times: [], series: new Map() };

/** Goes up with each sample; what draws reads it, then asks for a series. */
export const samples = signal(0);

export function seriesOf(name: string): [number[], Sample[]] {
  return [rates.times, rates.series.get(name) ?? rates.times.map(() => null)];
}

export function addSample(o: Overview, at: number): void {
  const seconds = at / 1000;
  const last = rates.times[rates.times.length - 1];
  if (last !== undefined && seconds - last < 0.5) return; // the first of a new connection
  // A silence is a gap in the line, not a slope.
  if (last !== undefined && seconds - last > 4) push(last + 1, new Map());
  const values = new Map(o.streams.slice(0, streamsMax).map((s) => [s.name, s.events_per_second]));
  values.set(alertSeries, o.alerts.per_minute);
  push(seconds, values);
  samples.value++;
}

function push(at: number, values: Map<string, number>): void {
  rates.times.push(at);
  for (const name of values.keys()) {
    if (!rates.series.has(name)) rates.series.set(name, new Array<Sample>(rates.times.length - 1).fill(null));
  }
  for (const [name, samples] of rates.series) {
    samples.push(values.get(name) ?? null);
    if (values.size > 0 && samples.every((s) => s === null)) rates.series.delete(name);
  }
  const extra = rates.times.length - samplesMax;
  if (extra <= 0) return;
  rates.times.splice(0, extra);
  for (const samples of rates.series.values()) samples.splice(0, extra);
}

const storageKey = 'weir-rates';

/** Keeps the charts over a reload of the page. */
export function keepRates(started: () => string | undefined): void {
  addEventListener('pagehide', () => {
    try {
      sessionStorage.setItem(storageKey, JSON.stringify({ started: started(), times: rates.times, series: [...rates.series] }));
    } catch {
      // Full or switched off: the charts then begin anew.
    }
  });
}

/** Takes back what an earlier load of the page kept, if it is of the same run of the server. */
export function restoreRates(started: string, at: number): void {
  try {
    const kept = JSON.parse(sessionStorage.getItem(storageKey) ?? 'null') as { started: string; times: number[]; series: [string, Sample[]][] } | null;
    sessionStorage.removeItem(storageKey);
    const last = kept?.times[kept.times.length - 1];
    if (!kept || kept.started !== started || last === undefined || rates.times.length > 0) return;
    if (at / 1000 - last < spanSeconds && last <= at / 1000) rates = { times: kept.times, series: new Map(kept.series) };
  } catch {
    // Not ours, or of another version.
  }
}
