import type { JSX } from 'preact';
import { overview, overviewAt, connection, retryNow } from '../model/live.js';
import { now } from '../model/clock.js';
import { ago, clockOf, count, fullTime, plural, short } from '../model/format.js';
import { href, queries, route, type View } from '../model/route.js';
import { theme, toggleTheme } from '../model/theme.js';
import { Icon, Mark, type IconName } from './icons.js';

export function Brand(): JSX.Element {
  const o = overview.value;
  return (
    <a class="brand" href="#/alerts" title={o ? `Weir ${o.version}, running since ${fullTime(o.started)} UTC, rules ${o.program}` : 'Weir'}>
      <Mark />
      <span class="brand-name">Weir</span>
      {o && <span class="brand-version">{o.version}</span>}
    </a>
  );
}

const labels: Record<View, string> = { alerts: 'Alerts', streams: 'Streams', rules: 'Rules', sql: 'SQL' };

export function Nav(): JSX.Element {
  const o = overview.value;
  const failing = o?.rules.filter((r) => r.errors > 0 || r.state === 'failing').length ?? 0;
  const counts: Partial<Record<View, string>> = o ? { alerts: o.alerts.total < 1e5 ? count(o.alerts.total) : short(o.alerts.total), streams: count(o.streams.length), rules: count(o.rules.length) } : {};
  return (
    <nav class="nav" aria-label="Views">
      {(Object.keys(labels) as View[]).map((view) => (
        <a key={view} href={href(view, queries.value[view])} aria-current={route.value.view === view ? 'page' : undefined}>
          <Icon name={view as IconName} />
          <span>{labels[view]}</span>
          {counts[view] !== undefined && <span class="nav-count">{counts[view]}</span>}
          {view === 'rules' && failing > 0 && <span class="nav-bad" title={`${plural(failing, 'rule')} with errors`}>{failing}<span class="hidden"> with errors</span></span>}
        </a>
      ))}
    </nav>
  );
}

export function Status(): JSX.Element {
  return (
    <div class="status">
      <Freshness />
      <ConnectionMark />
      <span class="clock" title="All times on this page are UTC">
        {new Date(now.value).toISOString().slice(11, 19)} <abbr title="Coordinated Universal Time">UTC</abbr>
      </span>
      <button type="button" class="quiet" onClick={toggleTheme} aria-label={theme.value === 'dark' ? 'Use the light theme' : 'Use the dark theme'} title="Light or dark">
        <Icon name={theme.value === 'dark' ? 'sun' : 'moon'} />
      </button>
    </div>
  );
}

/** Damage and stopped parts, named by the node; nothing where all is well. */
export function Trouble(): JSX.Element | null {
  const lines = overview.value?.trouble ?? [];
  if (lines.length === 0) return null;
  return (
    <ul class="trouble" role="alert">
      {lines.map((line) => <li key={line}>{line}</li>)}
    </ul>
  );
}

/** How far the slowest stream is complete: promise that what is shown includes it. */
function Freshness(): JSX.Element | null {
  const streams = (overview.value?.streams ?? []).filter((s) => s.watermark !== null);
  if (streams.length === 0) return null;
  const slowest = streams.reduce((a, b) => (Date.parse(a.watermark ?? '') <= Date.parse(b.watermark ?? '') ? a : b));
  const mark = slowest.watermark ?? '';
  const behind = now.value - Date.parse(mark);
  const all = streams.map((s) => `${s.name}: ${fullTime(s.watermark ?? '')}`).join('\n');
  return (
    <span class="fresh" title={`Watermarks (event time up to which a stream is complete, UTC)\n${all}`}>
      <span class="label">{streams.length > 1 ? `slowest: ${slowest.name}` : 'watermark'}</span>
      <span class="figure">{behind > 36e5 ? `${mark.slice(0, 10)} ` : ''}{clockOf(mark, 0)}</span>
      <span class="label behind">{behind > 0 && behind < 36e5 ? `${ago(behind)} behind` : ''}</span>
    </span>
  );
}

function ConnectionMark(): JSX.Element {
  const c = connection.value;
  const words = { live: 'Live', connecting: 'Connecting', broken: 'Reconnecting' }[c.state];
  const since = new Date(c.since).toISOString().slice(11, 19);
  const wait = Math.max(0, Math.ceil((c.retryAt - now.value) / 1000));
  return (
    <span class={`connection is-${c.state}`} title={`${words} since ${since} UTC`}>
      <span class="dot" aria-hidden="true" />
      <span role="status" aria-live="polite">
        {words}
        <span class="hidden"> since {since} UTC</span>
      </span>
      {c.state === 'live' && <span class="since" aria-hidden="true">since {since}</span>}
      {c.state === 'broken' && (
        <>
          <span class="since">{overviewAt.value > 0 ? `figures are ${ago(now.value - overviewAt.value)} old` : `since ${since}`}{wait > 0 && `, next try in ${wait} s`}</span>
          <button type="button" class="link" onClick={retryNow}>try now</button>
        </>
      )}
    </span>
  );
}
