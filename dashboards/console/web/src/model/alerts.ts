// The alerts that the page holds: the newest as they come, and older ones that
// were asked for. Memory is bounded on both sides.
//
// `live` are arrivals, newest first, at most liveMax. `older` continues it, from
// GET /v1/alerts, in the server's order (event time, newest first). What leaves
// live goes to the front of older, so that nothing vanishes from the middle.
import { computed, effect, signal } from '@preact/signals';
import { ApiError, getAlerts, type Alert, type Delivery } from './api.js';
import { deliveryState, haystack, matches, parseFilter, serverParams, type Filter } from './filter.js';
import { now } from './clock.js';
import { queries } from './route.js';

export const liveMax = 500;
export const heldMax = 5000;
const firstPage = 200;
const nextPage = 500;
/** Arrivals are shown in groups: soon while they are few, once a second when they are many. */
const groupMillis = { few: 200, many: 1000 };
const few = 3;
/** How long after its arrival an alert's delivery is asked for. */
const deliveryMillis = 180_000;

/** An alert with what the page computes from it once. */
export interface Entry {
  alert: Alert;
  hay: string;
  /** event time, milliseconds since the epoch */
  at: number;
  /** when the page got it live; 0 for one from a page of older alerts */
  arrived: number;
  /** it came among few, and may be pointed out */
  alone: boolean;
}

function entry(alert: Alert, arrived: number): Entry {
  return { alert, hay: haystack(alert), at: Date.parse(alert.time), arrived, alone: false };
}

export const live = signal<Entry[]>([]);
export const older = signal<Entry[]>([]);
/** Goes up when deliveries of alerts already held have changed. */
export const deliveryTick = signal(0);
/** How many alerts came too fast to be sent to this page. */
export const leftOut = signal(0);
export const loading = signal(false);
export const loadError = signal('');
/** There is nothing older on the server. */
export const atEnd = signal(false);
export const ready = signal(false);

/** The list stands still: the reader asked for it, or is reading. */
export const paused = signal(false);
export const reading = signal(false);
const held = signal<Entry[] | null>(null);
export const sinceHeld = signal(0);

export const filter = computed<Filter>(() => parseFilter(queries.value.alerts));

/** All that is held and not filtered, newest first, without doubles. */
export const known = computed<Entry[]>(() => {
  const head = held.value ?? live.value;
  const ids = new Set(head.map((e) => e.alert.id));
  return [...head, ...older.value.filter((e) => !ids.has(e.alert.id))];
});

export const shown = computed<Entry[]>(() => {
  void deliveryTick.value;
  return known.value.filter((e) => matches(filter.value, e.alert, e.hay));
});

effect(() => {
  const hold = paused.value || reading.value;
  if (hold && held.peek() === null) {
    held.value = live.peek();
    sinceHeld.value = 0;
  } else if (!hold && held.peek() !== null) {
    held.value = null;
    sinceHeld.value = 0;
  }
});

/** Shows what arrived meanwhile and holds again if the reader still reads. */
export function catchUp(): void {
  held.value = paused.peek() || reading.peek() ? live.peek() : null;
  sinceHeld.value = 0;
}

// --- arrivals ---

let group: Entry[] = [];
let groupTimer = 0;
let busy = false;
/** Newest event time by stream, by which a page tells new alerts from old. */
const newest = new Map<string, number>();

export function arrive(alert: Alert): void {
  group.push(entry(alert, Date.now()));
  if (group.length > liveMax) group = group.slice(-liveMax);
  groupTimer ||= window.setTimeout(flush, busy ? groupMillis.many : groupMillis.few);
}

function flush(): void {
  groupTimer = 0;
  const ids = new Set(live.peek().slice(0, liveMax).map((e) => e.alert.id));
  const fresh = group.filter((e) => !ids.has(e.alert.id) && ids.add(e.alert.id)).reverse();
  group = [];
  if (fresh.length === 0) return;
  busy = fresh.length > few;
  if (!busy) for (const e of fresh) e.alone = true;
  for (const e of fresh) newest.set(e.alert.stream, Math.max(newest.get(e.alert.stream) ?? -Infinity, e.at));
  const all = [...fresh, ...live.peek()];
  live.value = all.slice(0, liveMax);
  moveToOlder(all.slice(liveMax));
  if (held.peek() !== null) sinceHeld.value += fresh.filter((e) => matches(filter.peek(), e.alert, e.hay)).length;
}

/** Whether the reader asked for older pages: then more is kept. */
let paged = false;

function moveToOlder(from: Entry[]): void {
  if (from.length === 0) return;
  const snapshot = held.peek();
  if (snapshot) {
    // What stands still must not change under the reader: what came and went
    // since is only counted, and can be loaded afterwards.
    const still = new Set(snapshot.map((e) => e.alert.id));
    leftOut.value += from.filter((e) => !still.has(e.alert.id)).length;
    from = from.filter((e) => still.has(e.alert.id));
  }
  const room = (paged || snapshot ? heldMax : liveMax) - live.peek().length;
  const ids = new Set(from.map((e) => e.alert.id));
  const all = [...from.filter((e) => matches(filter.peek(), e.alert, e.hay)), ...older.peek().filter((e) => !ids.has(e.alert.id))];
  if (all.length > room) {
    cursor = undefined; // the mark is behind what was let go
    atEnd.value = false;
  }
  older.value = all.slice(0, Math.max(0, room));
}

// --- older pages ---

/** The server's mark for the next page; undefined: begin at the newest. */
let cursor: string | undefined;
let params: Record<string, string> = {};
let abort = new AbortController();

/** Loads the first page for the filter's fields, and the newest after a break. */
export async function reload(): Promise<void> {
  abort.abort();
  const mine = (abort = new AbortController());
  params = serverParams(filter.peek());
  cursor = undefined;
  paged = false;
  atEnd.value = false;
  loading.value = true;
  loadError.value = '';
  try {
    const page = await getAlerts({ ...params, limit: firstPage }, mine.signal);
    if (mine.signal.aborted) return;
    const have = new Map(live.peek().map((e) => [e.alert.id, e]));
    let missed = page.alerts.filter((a) => !have.has(a.id));
    if (Object.keys(params).length === 0 && live.peek().length > 0) missed = takeMissed(missed);
    for (const a of page.alerts) update(have.get(a.id), a.deliveries);
    older.value = missed.map((a) => entry(a, 0));
    for (const a of page.alerts) newest.set(a.stream, Math.max(newest.get(a.stream) ?? -Infinity, Date.parse(a.time)));
    cursor = page.next;
    atEnd.value = page.next === undefined;
    ready.value = true;
  } catch (err) {
    if (!mine.signal.aborted) loadError.value = message(err);
  } finally {
    if (!mine.signal.aborted) loading.value = false;
  }
}

/** Begins anew from the server, for alerts that came too fast to be sent here. */
export function resync(): void {
  leftOut.value = 0;
  group = [];
  live.value = [];
  older.value = [];
  if (held.peek() !== null) held.value = [];
  void reload();
}

/** Puts alerts raised during a break of the connection among the arrivals. */
function takeMissed(unknown: Alert[]): Alert[] {
  const isNew = (a: Alert): boolean => Date.parse(a.time) > (newest.get(a.stream) ?? Infinity);
  for (const a of unknown.filter(isNew).reverse()) arrive(a);
  return unknown.filter((a) => !isNew(a));
}

/** At most this many pages are walked to find one alert that is not held yet. */
const walkMax = 12;

export const full = computed(() => live.value.length + older.value.length >= heldMax);

export async function loadOlder(): Promise<void> {
  if (loading.peek() || atEnd.peek() || full.peek()) return;
  const mine = abort;
  loading.value = true;
  loadError.value = '';
  paged = true;
  try {
    for (let walked = 0; walked < walkMax; walked++) {
      const page = await getAlerts({ ...params, limit: nextPage, before: cursor ?? '' }, mine.signal);
      if (mine.signal.aborted) return;
      const ids = new Set([...live.peek(), ...older.peek()].map((e) => e.alert.id));
      const fresh = page.alerts.filter((a) => !ids.has(a.id)).map((a) => entry(a, 0));
      const room = Math.max(0, heldMax - live.peek().length - older.peek().length);
      older.value = [...older.peek(), ...fresh.slice(0, room)];
      cursor = page.next;
      atEnd.value = page.next === undefined;
      if (fresh.length > 0 || atEnd.peek()) return;
    }
  } catch (err) {
    if (!mine.signal.aborted) loadError.value = message(err);
  } finally {
    if (!mine.signal.aborted) loading.value = false;
  }
}

const message = (err: unknown): string => (err instanceof ApiError ? err.message : String(err));

// A change of what the server filters by starts from its first page.
let paramsKey = '{}';
let reloadTimer = 0;
effect(() => {
  const key = JSON.stringify(serverParams(filter.value));
  if (key === paramsKey) return;
  paramsKey = key;
  clearTimeout(reloadTimer);
  reloadTimer = window.setTimeout(() => void reload(), 150);
});

// --- deliveries ---

function update(e: Entry | undefined, deliveries: Delivery[] | undefined): void {
  if (!e || !deliveries || deliveries.length === 0 || deliveries.length === e.alert.deliveries?.length) return;
  e.alert = { ...e.alert, deliveries };
}

/** Whether an alert's delivery may still change while someone looks. */
export function unsettled(e: Entry, at: number): boolean {
  const state = deliveryState(e.alert);
  return state === 'retrying' || (state === 'pending' && e.arrived > 0 && at - e.arrived < deliveryMillis);
}

/** Asks for the deliveries of alerts that are in sight and not settled. */
export async function refreshDeliveries(inSight: Entry[]): Promise<void> {
  const open = inSight.filter((e) => unsettled(e, now.peek()));
  // One call for each stream: what came last is on its first page.
  const streams = [...new Set(open.map((e) => e.alert.stream))].slice(0, 3);
  const byID = new Map(open.map((e) => [e.alert.id, e]));
  for (const stream of streams) {
    try {
      const page = await getAlerts({ stream, limit: firstPage });
      for (const a of page.alerts) update(byID.get(a.id), a.deliveries);
    } catch {
      return; // the connection state says enough
    }
  }
  if (open.length > 0) deliveryTick.value++;
}
