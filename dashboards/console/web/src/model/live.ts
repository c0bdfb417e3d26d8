// The live connection: server-sent events with a back-off of our own, since a
// browser gives up for good on an answer that is not 200.
import { effect, signal } from '@preact/signals';
import { getOverview, getStreams, type Alert, type Overview, type Stream } from './api.js';
import * as alerts from './alerts.js';
import { parseExact } from './exact.js';
import { addSample, keepRates, restoreRates } from './rates.js';

export type ConnectionState = 'connecting' | 'live' | 'broken';

export interface Connection {
  state: ConnectionState;
  /** since when, milliseconds since the epoch */
  since: number;
  /** when the next attempt is due; 0 while one is under way */
  retryAt: number;
}

export const connection = signal<Connection>({ state: 'connecting', since: Date.now(), retryAt: 0 });
export const overview = signal<Overview | null>(null);
/** When the newest overview came, milliseconds since the epoch. */
export const overviewAt = signal(0);
/** The streams with their fields; they change only with the configuration. */
export const details = signal<Stream[]>([]);

const waitMin = 500;
const waitMax = 15_000;
/** A browser has six connections to a server; a page that nobody looks at gives its own back. */
const hiddenMax = 60_000;
/** The server speaks every second; a silence this long is a dead connection. */
const silenceMax = 8_000;

let source: EventSource | undefined;
let attempt = 0;
let retryTimer = 0;
let silenceTimer = 0;
let hiddenTimer = 0;

function setState(state: ConnectionState, retryAt = 0): void {
  const was = connection.peek();
  connection.value = { state, since: was.state === state ? was.since : Date.now(), retryAt };
}

function take(o: Overview): void {
  const at = Date.now();
  if (overview.peek() === null) restoreRates(o.started, at);
  overview.value = o;
  overviewAt.value = at;
  addSample(o, at);
}

function connect(): void {
  clearTimeout(retryTimer);
  source?.close();
  if (connection.peek().state === 'broken') setState('broken'); // no countdown while trying
  const es = (source = new EventSource('/v1/live'));
  const on = (name: string, handle: (data: string) => void): void => {
    es.addEventListener(name, (event) => {
      if (source !== es) return;
      watchSilence();
      handle((event as MessageEvent<string>).data);
    });
  };
  es.onopen = () => {
    if (source !== es) return;
    setState('live');
    watchSilence();
    void alerts.reload();
  };
  es.onerror = () => source === es && lose();
  on('overview', (data) => {
    attempt = 0;
    take(JSON.parse(data) as Overview);
  });
  on('alert', (data) => alerts.arrive(parseExact(data) as unknown as Alert));
  on('left_out', (data) => (alerts.leftOut.value += Number(data) || 0));
}

function watchSilence(): void {
  clearTimeout(silenceTimer);
  silenceTimer = window.setTimeout(lose, silenceMax);
}

/** Full jitter over an exponential bound: many consoles do not come back at once. */
function lose(): void {
  clearTimeout(silenceTimer);
  source?.close();
  source = undefined;
  const bound = Math.min(waitMax, waitMin * 2 ** attempt++);
  const wait = waitMin / 2 + Math.random() * bound;
  setState('broken', Date.now() + wait);
  retryTimer = window.setTimeout(connect, wait);
}

function rest(): void {
  clearTimeout(silenceTimer);
  clearTimeout(retryTimer);
  source?.close();
  source = undefined;
  setState('connecting');
}

/** Tries at once: the reader asked, or the network or the tab came back. */
export function retryNow(): void {
  if (source) return;
  attempt = 0;
  connect();
}

export function startLive(): void {
  keepRates(() => overview.peek()?.started);
  connect();
  // The first figures and alerts do not wait for the live connection.
  void alerts.reload();
  getOverview().then((o) => overview.peek() ?? take(o), () => undefined);
  addEventListener('online', retryNow);
  document.addEventListener('visibilitychange', () => {
    clearTimeout(hiddenTimer);
    if (document.hidden) hiddenTimer = window.setTimeout(rest, hiddenMax);
    else retryNow();
  });
  let seen = '';
  effect(() => {
    const o = overview.value;
    if (!o) return;
    const key = [o.started, ...o.streams.map((s) => s.name)].join('\n');
    if (key === seen) return;
    seen = key;
    getStreams().then((list) => (details.value = list), () => (seen = ''));
  });
}
