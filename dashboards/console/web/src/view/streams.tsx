import type { JSX } from 'preact';
import { Fragment } from 'preact';
import { useEffect } from 'preact/hooks';
import type { Stream } from '../model/api.js';
import { count, plural, rate } from '../model/format.js';
import { keyedStreams } from '../model/keyed.js';
import { details, overview } from '../model/live.js';
import { withField } from '../model/filter.js';
import { href, route, setQuery } from '../model/route.js';
import { RateChart } from './chart.js';
import { NoEvents, NoStreams } from './empty.js';
import { Expand, Expanded } from './expand.js';
import { Icon } from './icons.js';
import { KeyedTable } from './keyed.js';
import { Watermark } from './words.js';

const expanded = new Expanded();

export function StreamsView(): JSX.Element {
  const o = overview.value;
  // A link to one stream opens it.
  const asked = route.value.query;
  const exists = o?.streams.some((s) => s.name === asked) ?? false;
  useEffect(() => {
    if (!exists) return;
    expanded.open(asked);
    document.getElementById(`stream-${asked}`)?.scrollIntoView({ block: 'nearest' });
  }, [asked, exists]);
  if (!o) return <p class="foot">Loading…</p>;
  if (o.streams.length === 0) return <NoStreams />;
  const words = exists ? [] : asked.toLowerCase().split(/\s+/).filter(Boolean);
  const streams = o.streams.filter((s) => words.every((w) => `${s.name} ${s.topic} ${s.key} ${s.format} ${s.alias ?? ''}`.toLowerCase().includes(w)));
  const keyed = keyedStreams(o.keyed ?? []).filter((k) => words.every((w) => `${k.topic} ${k.key.join(' ')} ${k.sources.join(' ')} ${k.rules.join(' ')}`.toLowerCase().includes(w)));
  const sum = (pick: (s: Stream) => number): number => o.streams.reduce((n, s) => n + pick(s), 0);
  return (
    <section class="page" aria-label="Streams">
      <div class="toolbar">
        <label class="search">
          <Icon name="search" />
          <span class="hidden">Find a stream</span>
          <input data-search type="search" value={exists ? '' : asked} spellcheck={false} autocomplete="off" placeholder="Find a stream, topic or key" onInput={(e) => setQuery(e.currentTarget.value)} />
          <kbd aria-hidden="true">/</kbd>
        </label>
        <p class="toolbar-note">{plural(o.streams.length, 'stream')}, <b>{count(sum((s) => s.events))}</b> events, <b>{rate(sum((s) => s.events_per_second))}</b> events/s</p>
      </div>
      <div class="scroll" tabIndex={0} role="group" aria-label="Table of streams">
        <table class="grid streams">
          <thead>
            <tr>
              <th scope="col">Stream</th><th scope="col">Topic</th><th scope="col" class="right">Partitions</th><th scope="col">Format</th><th scope="col">Key</th><th scope="col" class="right">Events</th>
              <th scope="col" class="right">Events/s</th><th scope="col"><span class="hidden">Last five minutes</span></th><th scope="col" class="right">Watermark, UTC</th><th scope="col" class="right" title="Records that the engine has still to decide">Lag</th>
              <th scope="col" class="right">Late</th><th scope="col" class="right">Dead letters</th><th scope="col" class="right">Alerts</th>
            </tr>
          </thead>
          <tbody>
            {streams.map((s) => <Fragment key={s.name}><StreamRow s={s} />{expanded.has(s.name) && <Fields s={s} />}</Fragment>)}
          </tbody>
        </table>
        {streams.length === 0 && keyed.length === 0 && <p class="foot">No stream matches.</p>}
        {o.streams.every((s) => s.events === 0) && <NoEvents o={o} />}
        {keyed.length > 0 && <KeyedTable streams={keyed} />}
      </div>
    </section>
  );
}

function StreamRow({ s }: { s: Stream }): JSX.Element {
  return (
    <tr id={`stream-${s.name}`} class={expanded.has(s.name) ? 'is-open' : ''}>
      <th scope="row">
        <Expand rows={expanded} name={s.name}>{s.name}</Expand>
      </th>
      <td data-label="Topic" class="mono">{s.topic}</td>
      <td data-label="Partitions" class="right">{count(s.partitions)}</td>
      <td data-label="Format">{s.format}</td>
      <td data-label="Key" class="mono">{s.key || <span class="unit">none</span>}</td>
      <td data-label="Events" class="right">{count(s.events)}</td>
      <td data-label="Events/s" class="right strong rate">{rate(s.events_per_second)}</td>
      <td class="spark"><RateChart series={s.name} colour="accent" axes={false} label={`${s.name}: events per second over the last five minutes`} /></td>
      <td data-label="Watermark" class="right mark"><Watermark time={s.watermark} none="none" /></td>
      <td data-label="Lag" class="right">{count(s.lag)}</td>
      <td data-label="Late" class={`right ${s.late > 0 ? 'tone-warn' : ''}`}>{count(s.late)}</td>
      <td data-label="Dead letters" class={`right ${s.dead_letters > 0 ? 'tone-bad' : ''}`}>{count(s.dead_letters)}</td>
      <td data-label="Alerts" class="right">{s.alerts > 0 ? <a href={href('alerts', withField('', 'stream', [s.name]))}>{count(s.alerts)}</a> : '0'}</td>
    </tr>
  );
}

function Fields({ s }: { s: Stream }): JSX.Element {
  const d = details.value.find((one) => one.name === s.name) ?? s;
  return (
    <tr class="inset">
      <td colSpan={13}>
        <div class="inset-body">
          <p class="unit">In rules it is called <code>{d.alias || d.name}</code>{d.time && <>, its event time is <code>{d.time}</code></>}.{d.version ? ` Version ${d.version}, ${d.declared === 'api' ? 'made over HTTP' : 'declared in weir.yaml'}.` : ''} {count(s.decisions)} decisions. <a href={href('sql', `SELECT * FROM "${s.name}"\nORDER BY _offset DESC\nLIMIT 20`)}>Look at its events</a>{s.dead_letters > 0 && <>, or at its <a href={href('sql', `SELECT * FROM deadletters\nWHERE stream = '${s.name}'\nLIMIT 20`)}>dead letters</a></>}.</p>
          <table class="fields">
            <thead><tr><th scope="col">Field</th><th scope="col">Type</th><th scope="col">Found at</th><th scope="col">Written as</th><th scope="col"><span class="hidden">Role</span></th></tr></thead>
            <tbody>
              {(d.fields ?? []).map((f) => (
                <tr key={f.name}>
                  <th scope="row" class="mono">{f.name}</th>
                  <td class="mono">{f.type}{f.optional && <span class="unit"> optional</span>}</td>
                  <td class="mono">{f.from || f.name}</td>
                  <td class="mono">{f.layout || ''}</td>
                  <td>{[f.name === d.time && 'event time', f.name === d.key && 'key', f.sensitive && `sensitive: ${f.sensitive}`].filter(Boolean).join(', ')}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </td>
    </tr>
  );
}
