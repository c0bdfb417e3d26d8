// The analyst's list: newest alerts, a filter, and the one being read.
import { computed, signal } from '@preact/signals';
import type { JSX } from 'preact';
import { memo } from './memo.js';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import * as store from '../model/alerts.js';
import type { Alert } from '../model/api.js';
import { plain } from '../model/exact.js';
import { deliveryState, isEmpty, parseFilter, severities, toggled, type FilterName } from '../model/filter.js';
import { count, dateOf, clockOf, fullTime, plural } from '../model/format.js';
import { now } from '../model/clock.js';
import { overview } from '../model/live.js';
import { queries, setQuery } from '../model/route.js';
import { Detail } from './detail.js';
import { NoAlerts } from './empty.js';
import { Facets, facet } from './facets.js';
import { Icon } from './icons.js';
import { Action, Ago, DeliveryMark, Severity } from './words.js';

/** The alert that the arrow keys are on, and whether it is open beside the list. */
export const selected = signal<string | null>(null);
export const open = signal(false);

/** The selected alert; it stays while it is read, even when the list lets it go. */
let lastSelected: store.Entry | undefined;
const selectedEntry = computed(() => {
  void store.deliveryTick.value;
  const id = selected.value;
  if (id === null) return undefined;
  const found = store.known.value.find((e) => e.alert.id === id);
  if (found) lastSelected = found;
  return lastSelected?.alert.id === id ? lastSelected : undefined;
});

export function closeDetail(): void {
  open.value = false;
}

export function AlertsView(): JSX.Element {
  const o = overview.value;
  const nothing = o !== null && store.ready.value && store.known.value.length === 0 && isEmpty(store.filter.value);
  const entry = selectedEntry.value;
  return (
    <div class={`desk ${nothing ? 'is-empty' : open.value && entry ? 'has-detail' : ''}`}>
      {!nothing && <Facets />}
      <section class="pane" aria-label="Alerts">
        {nothing ? <NoAlerts o={o} /> : <><Toolbar /><List /></>}
      </section>
      {open.value && entry && <Detail entry={entry} onClose={() => { closeDetail(); selected.value = null; }} onStep={step} />}
    </div>
  );
}

function Toolbar(): JSX.Element {
  const query = queries.value.alerts;
  const bySeverity = facet('severity');
  const on = parseFilter(query).fields.severity ?? [];
  return (
    <div class="toolbar">
      <label class="search">
        <Icon name="search" />
        <span class="hidden">Filter alerts by rule, key or any text</span>
        <input data-search type="search" value={query} spellcheck={false} autocomplete="off" placeholder="Filter: any text, rule:…, key:…, stream:…" onInput={(e) => setQuery(e.currentTarget.value)} />
        <kbd aria-hidden="true">/</kbd>
      </label>
      <div class="chips" role="group" aria-label="Severity">
        {severities.map((level) => (
          <button key={level} type="button" class={`chip sev-${level}`} aria-pressed={on.includes(level)} onClick={() => setQuery(toggled(query, 'severity', level))}>
            {level} <span class="chip-count">{count(bySeverity.get(level) ?? 0)}</span>
          </button>
        ))}
      </div>
      <button type="button" class="button" aria-pressed={store.paused.value} onClick={() => (store.paused.value = !store.paused.value)} title="Let the list stand still (p)">
        <Icon name={store.paused.value ? 'play' : 'pause'} />
        <span>{store.paused.value ? 'Resume' : 'Pause'}</span>
      </button>
      <Extent />
    </div>
  );
}

/** How much of it all is in the list. */
function Extent(): JSX.Element {
  const held = store.known.value.length;
  if (isEmpty(store.filter.value)) return <p class="toolbar-note" title="Alerts in this list, of all in weir.alerts"><b>{count(held)}</b> of {count(Math.max(held, overview.value?.alerts.total ?? 0))}</p>;
  return <p class="toolbar-note" title="Alerts that pass the filter, of those loaded here"><b>{count(store.shown.value.length)}</b> of {count(held)} loaded</p>;
}

// --- the list ---

const narrowRow = 96;
const wideRow = 46;
/** The list is narrow below this width, and its rows are cards. */
const narrowWidth = 680;
const overscan = 6;

let scroller: HTMLElement | null = null;

function List(): JSX.Element {
  const node = useRef<HTMLDivElement>(null);
  const [size, setSize] = useState({ width: 1000, height: 600 });
  const [top, setTop] = useState(0);
  const entries = store.shown.value;
  const rowHeight = size.width < narrowWidth ? narrowRow : wideRow;

  useLayoutEffect(() => {
    const box = node.current;
    if (!box) return undefined;
    scroller = box;
    const sizes = new ResizeObserver(() => setSize({ width: box.clientWidth, height: box.clientHeight }));
    sizes.observe(box);
    return () => {
      sizes.disconnect();
      scroller = null;
      store.reading.value = false;
    };
  }, []);

  // The list stands still while it is scrolled, or an alert is open or chosen.
  const reading = top > 4 || selected.value !== null;
  useLayoutEffect(() => {
    store.reading.value = reading;
  }, [reading]);

  const first = Math.max(0, Math.floor(top / rowHeight) - overscan);
  const end = Math.min(entries.length, Math.ceil((top + size.height) / rowHeight) + overscan);
  const inSight = entries.slice(first, end);
  useDeliveries(inSight);

  const onScroll = (): void => {
    const box = node.current;
    if (!box) return;
    setTop(box.scrollTop);
    if (box.scrollTop > 0 && box.scrollTop + box.clientHeight > box.scrollHeight - 5 * rowHeight) void store.loadOlder();
  };

  const current = entries.findIndex((e) => e.alert.id === selected.value);
  const place = (i: number): { transform: string; height: string } => ({ transform: `translateY(${i * rowHeight}px)`, height: `${rowHeight}px` });
  return (
    <>
      <div class="list-head">
        <div class="columns" aria-hidden="true">
          <span>Time, UTC</span>
          <span>Severity</span>
          <span>Rule, key</span>
          <span>Message, values that fired it</span>
          <span class="right">Score</span>
          <span>Action</span>
          <span>Delivery</span>
        </div>
        <Notice />
      </div>
      <div
        ref={node}
        class="list"
        role="listbox"
        tabIndex={0}
        aria-label="Alerts, newest first"
        aria-activedescendant={current >= first && current < end ? rowID(current) : undefined}
        onScroll={onScroll}
        onKeyDown={(e) => onListKey(e, rowHeight)}
      >
        <div class="list-inner" role="presentation" style={{ height: `${entries.length * rowHeight}px` }}>
          {inSight.map((e, i) => (
            <div key={e.alert.id} id={rowID(first + i)} class={`row sev-${e.alert.severity} ${e.alone && now.value - e.arrived < 1500 ? 'is-new' : ''}`} role="option" style={place(first + i)} aria-selected={e.alert.id === selected.value} aria-setsize={entries.length} aria-posinset={first + i + 1} onClick={() => choose(e.alert.id)}>
              <RowBody alert={e.alert} at={e.at} />
            </div>
          ))}
        </div>
        <Foot shown={entries.length} />
      </div>
    </>
  );
}

const rowID = (i: number): string => `alert-${i}`;

/** Asks for deliveries of the rows in sight, every few seconds while any is open. */
function useDeliveries(inSight: store.Entry[]): void {
  const rows = useRef(inSight);
  rows.current = inSight;
  useEffect(() => {
    let timer = 0;
    const ask = async (): Promise<void> => {
      if (!document.hidden) await store.refreshDeliveries(rows.current);
      timer = window.setTimeout(() => void ask(), 3000);
    };
    timer = window.setTimeout(() => void ask(), 1200);
    return () => clearTimeout(timer);
  }, []);
}

const RowBody = memo(function RowBody({ alert: a, at }: { alert: Alert; at: number }): JSX.Element {
  const values = Object.entries(a.values);
  return (
    <>
      <time class="cell when" dateTime={a.time} title={`${fullTime(a.time)} UTC`}>{clockOf(a.time)}</time>
      <span class="cell sub ago"><When time={a.time} at={at} /></span>
      <span class="cell level"><Severity level={a.severity} /></span>
      <span class="cell rule" title={a.rule}>{a.rule}</span>
      <span class="cell sub key" title={`${a.stream}, key ${a.key}`}>{a.key}</span>
      <span class="cell message" title={a.message}>{a.message}</span>
      <span class="cell sub values">
        {values.map(([name, value]) => <span class="value" key={name} title={`${name} = ${plain(value)}`}><span class="value-name">{name}</span><span class="value-is">=</span><b>{plain(value)}</b></span>)}
      </span>
      <span class="cell score">{String(a.score)}</span>
      <span class="cell act"><Action name={a.action} /></span>
      <span class="cell sent"><DeliveryMark state={deliveryState(a)} /></span>
    </>
  );
});

/** Under the clock: how long ago, and the day where it is another one. */
function When({ time, at }: { time: string; at: number }): JSX.Element {
  const today = new Date(now.value).toISOString().slice(0, 10);
  return <>{dateOf(time) !== today && `${dateOf(time)}, `}<Ago at={at} /></>;
}

function Notice(): JSX.Element | null {
  const fresh = store.sinceHeld.value;
  const missed = store.leftOut.value;
  const show = (): void => {
    scroller?.scrollTo({ top: 0 });
    if (!open.value) selected.value = null;
    store.catchUp();
  };
  if (fresh > 0) {
    return (
      <button type="button" class="notice" onClick={show}>
        <Icon name="up" /> {plural(fresh, 'new alert')} {store.paused.value ? 'while paused' : 'while you read'}
        <span class="notice-hint">show</span>
      </button>
    );
  }
  if (missed > 0) {
    return (
      <button type="button" class="notice" onClick={store.resync}>
        {plural(missed, 'alert')} came too fast to be shown as they came
        <span class="notice-hint">load them</span>
      </button>
    );
  }
  return null;
}

function Foot({ shown }: { shown: number }): JSX.Element {
  const held = store.known.value.length;
  const words = store.filter.value.words.length > 0;
  if (store.loadError.value) {
    return <div class="foot is-bad">Older alerts did not load: {store.loadError.value}. <button type="button" class="link" onClick={() => void (store.ready.value ? store.loadOlder() : store.reload())}>Try again</button></div>;
  }
  if (store.loading.value || !store.ready.value) return <div class="foot">Loading…</div>;
  const found = shown === 0 ? `Nothing matches${held > 0 ? ` among the ${count(held)} newest` : ''}. ` : words ? `Text is looked for in the ${count(held)} newest. ` : '';
  if (store.atEnd.value) return <div class="foot">{found}{shown > 0 ? 'No older alerts.' : ''}</div>;
  if (store.full.value) return <div class="foot">{found}The list holds {count(store.heldMax)}; filter by rule, key or severity to go further back, or ask <a href="#/sql">SQL</a>.</div>;
  return <div class="foot">{found}<button type="button" class="link" onClick={() => void store.loadOlder()}>Load older alerts</button></div>;
}

// --- choosing ---

function choose(id: string): void {
  selected.value = id;
  open.value = true;
}

/** Moves the choice by n rows and keeps it in sight. */
function step(n: number): void {
  const list = store.shown.value;
  const at = list.findIndex((e) => e.alert.id === selected.value);
  const next = list[Math.max(0, Math.min(list.length - 1, at < 0 ? 0 : at + n))];
  if (!next) return;
  selected.value = next.alert.id;
  const index = list.indexOf(next);
  if (!scroller) return;
  const rowHeight = scroller.clientWidth < narrowWidth ? narrowRow : wideRow;
  const y = index * rowHeight;
  if (y < scroller.scrollTop) scroller.scrollTop = y;
  else if (y + rowHeight > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = y + rowHeight - scroller.clientHeight;
  if (index > list.length - 8) void store.loadOlder();
}

const steps: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1, Home: -Infinity, End: Infinity };

function onListKey(e: KeyboardEvent, rowHeight: number): void {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  const page = Math.max(1, Math.floor((scroller?.clientHeight ?? 400) / rowHeight) - 1);
  const n = e.key === 'PageDown' ? page : e.key === 'PageUp' ? -page : steps[e.key];
  if (n !== undefined) step(n);
  else if (e.key === 'Enter' && selected.value !== null) open.value = true;
  else return;
  e.preventDefault();
}

/** Keys that work wherever the focus is; true when one was used. */
export function onAlertsKey(e: KeyboardEvent): boolean {
  if (e.key === 'Escape') {
    if (open.value) {
      closeDetail();
      scroller?.focus({ preventScroll: true });
    } else if (selected.value !== null) selected.value = null;
    else return false;
    return true;
  }
  if (e.key === 'p') store.paused.value = !store.paused.value;
  else if (e.key === 'ArrowDown' || e.key === 'ArrowUp') {
    if (document.activeElement !== document.body) return false;
    scroller?.focus({ preventScroll: true });
    step(steps[e.key] ?? 0);
  } else return false;
  return true;
}

/** A filter as a link would set it, from elsewhere on the page. */
export function filterBy(name: FilterName, value: string): void {
  setQuery(toggled(queries.peek().alerts, name, value));
}
