import type { JSX } from 'preact';
import { Fragment } from 'preact';
import { bytes, count, fullTime, plural } from '../model/format.js';
import type { KeyedStream } from '../model/keyed.js';
import { href } from '../model/route.js';
import { Expand, Expanded } from './expand.js';
import { Icon } from './icons.js';
import { Instant, Watermark } from './words.js';

const expanded = new Expanded();

/** The keyed streams: what windows by other fields than the streams' keys stand on. */
export function KeyedTable({ streams }: { streams: KeyedStream[] }): JSX.Element {
  return (
    <section aria-label="Keyed streams" class="keyed-section">
      <h2 class="section-head">Keyed streams <span class="unit">events brought together by another field than their stream's key, for the windows of rules</span></h2>
      <table class="grid streams keyed">
        <thead>
          <tr>
            <th scope="col">Topic</th><th scope="col">By</th><th scope="col">Rules</th><th scope="col">State</th><th scope="col" class="right">Partitions</th>
            <th scope="col" class="right" title="Blocks of events that the windows have not taken in">Lag, blocks</th><th scope="col" class="right">Watermark, UTC</th>
            <th scope="col" class="right" title="Since the start">Events taken in</th><th scope="col" class="right">On disk</th>
          </tr>
        </thead>
        <tbody>{streams.map((s) => <Fragment key={s.topic}><KeyedRow s={s} />{expanded.has(s.topic) && <Partitions s={s} />}</Fragment>)}</tbody>
      </table>
    </section>
  );
}

function KeyedRow({ s }: { s: KeyedStream }): JSX.Element {
  return (
    <tr class={`${expanded.has(s.topic) ? 'is-open' : ''} ${s.troubles.length > 0 ? 'has-error' : ''}`}>
      <th scope="row">
        <Expand rows={expanded} name={s.topic}>{s.topic.replace(/^weir\.keyed\./, '')}</Expand>
        {s.troubles.map((t) => <p key={t} class="rule-error"><Icon name="fail" label="Trouble" /> {t}</p>)}
      </th>
      <td data-label="By" class="mono by">{s.key.length > 0 ? s.key.map((k) => <span key={k}>{k}</span>) : <span class="unit">{s.topic.replace(/^weir\.keyed\.|-[0-9a-f]+$/g, '')}</span>}</td>
      <td data-label="Rules" class="by">{s.rules.length > 0 ? s.rules.map((r) => <a key={r} href={href('rules', r)}>{r}</a>) : <span class="unit">none</span>}</td>
      <td data-label="State">{s.kept ? <Kept s={s} /> : <span class={`state is-${s.troubles.length > 0 ? 'failing' : 'active'}`}>{s.troubles.length > 0 ? 'failing' : 'active'}</span>}</td>
      <td data-label="Partitions" class="right">{count(s.parts.length)}</td>
      <td data-label="Lag, blocks" class="right">{s.kept ? <span class="unit">–</span> : count(s.lag)}</td>
      <td data-label="Watermark" class="right mark"><Watermark time={s.watermark} none={s.kept ? '–' : 'none'} /></td>
      <td data-label="Events taken in" class="right">{s.kept ? <span class="unit">–</span> : count(s.rows)}</td>
      <td data-label="On disk" class="right">{bytes(s.bytes)}</td>
    </tr>
  );
}

function Kept({ s }: { s: KeyedStream }): JSX.Element {
  const title = 'No rule needs it. It is kept for what may have to be decided again, and for a rule that comes back.';
  return (
    <span class="state is-off" title={s.keptUntil ? `${title} It is deleted after ${fullTime(s.keptUntil)} UTC.` : title}>
      kept{s.keptUntil && <span class="sub">until {s.keptUntil.slice(0, 10)}</span>}
    </span>
  );
}

function Partitions({ s }: { s: KeyedStream }): JSX.Element {
  return (
    <tr class="inset">
      <td colSpan={9}>
        <div class="inset-body">
          <p class="unit">Topic <code>{s.topic}</code>{s.sources.length > 0 && <>, of {s.sources.map((n, i) => <Fragment key={n}>{i > 0 && ' and '}<a href={href('streams', n)}>{n}</a></Fragment>)}</>}. {plural(s.parts.length, 'partition')}, written by Weir alone.</p>
          <table class="fields">
            <thead><tr><th scope="col">Partition</th><th scope="col">Lag, blocks</th><th scope="col">Watermark, UTC</th><th scope="col">Events taken in</th><th scope="col">On disk</th></tr></thead>
            <tbody>
              {s.parts.map((p) => (
                <tr key={p.partition}>
                  <th scope="row">{p.partition}</th>
                  <td>{count(p.lag)}</td>
                  <td>{p.watermark === null ? 'none' : <Instant time={p.watermark} />}</td>
                  <td>{count(p.rows)}</td>
                  <td>{bytes(p.bytes)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </td>
    </tr>
  );
}
