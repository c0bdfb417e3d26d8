import { signal } from '@preact/signals';
import type { JSX } from 'preact';
import { Fragment } from 'preact';
import { useEffect } from 'preact/hooks';
import type { Rule } from '../model/api.js';
import { withField } from '../model/filter.js';
import { count, fullTime, place, plural, short } from '../model/format.js';
import { now } from '../model/clock.js';
import { overview } from '../model/live.js';
import { operators, watchOperators, windowLines } from '../model/operators.js';
import { href, queries, setQuery } from '../model/route.js';
import { NoRules } from './empty.js';
import { Icon } from './icons.js';
import { memo } from './memo.js';
import { Action, Cel, Instant, Severity } from './words.js';

type Column = 'id' | 'fired' | 'errors' | 'no_data' | 'last_fired';
const order = signal<{ by: Column | null; down: boolean }>({ by: null, down: true });
const failingOnly = signal(false);
const warmingOnly = signal(false);

function compare(a: Rule, b: Rule, by: Column): number {
  if (by === 'id') return a.id < b.id ? -1 : 1;
  if (by === 'last_fired') return Date.parse(a.last_fired ?? '') - Date.parse(b.last_fired ?? '') || (a.last_fired ? 1 : b.last_fired ? -1 : 0);
  return a[by] - b[by];
}

/** Whether a rule has met errors, fails, or waits for windows that cannot be made. */
function troubled(r: Pick<Rule, 'errors' | 'trouble'>): boolean {
  return r.errors > 0 || !!r.trouble;
}

function chosen(rules: Rule[], query: string): Rule[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const out = rules.filter((r) => {
    if (failingOnly.value && !troubled(r)) return false;
    if (warmingOnly.value && r.state !== 'warming') return false;
    if (words.length === 0) return true;
    const hay = `${r.id} ${r.stream} ${r.when} ${r.action} ${r.severity} ${r.mode} ${r.state ?? ''} ${r.description ?? ''} ${r.file}`.toLowerCase();
    return words.every((w) => hay.includes(w));
  });
  const { by, down } = order.value;
  return by ? out.sort((a, b) => (down ? -1 : 1) * compare(a, b, by)) : out;
}

export function RulesView(): JSX.Element {
  useEffect(watchOperators, []);
  const o = overview.value;
  const windows = operators.value;
  if (!o) return <p class="foot">Loading…</p>;
  if (o.rules.length === 0) return <section class="page" aria-label="Rules"><NoRules o={o} /></section>;
  const query = queries.value.rules;
  const rules = chosen(o.rules, query);
  const failing = o.rules.filter(troubled).length;
  const warming = o.rules.filter((r) => r.state === 'warming').length;
  const today = new Date(now.value).toISOString().slice(0, 10);
  return (
    <section class="page" aria-label="Rules">
      <div class="toolbar">
        <label class="search">
          <Icon name="search" />
          <span class="hidden">Find a rule</span>
          <input data-search type="search" value={query} spellcheck={false} autocomplete="off" placeholder="Find a rule by id, expression, stream, action or mode" onInput={(e) => setQuery(e.currentTarget.value)} />
          <kbd aria-hidden="true">/</kbd>
        </label>
        {(warming > 0 || warmingOnly.value) && <button type="button" class="chip chip-warming" aria-pressed={warmingOnly.value} onClick={() => (warmingOnly.value = !warmingOnly.value)}>warming <span class="chip-count">{warming}</span></button>}
        {failing > 0 && <button type="button" class="chip chip-bad" aria-pressed={failingOnly.value} onClick={() => (failingOnly.value = !failingOnly.value)}>with errors <span class="chip-count">{failing}</span></button>}
        <p class="toolbar-note">{rules.length === o.rules.length ? plural(rules.length, 'rule') : `${count(rules.length)} of ${plural(o.rules.length, 'rule')}`}, set <code>{o.program.slice(0, 12)}</code></p>
      </div>
      <div class="scroll" tabIndex={0} role="group" aria-label="Table of rules">
        <table class="grid rules">
          <thead>
            <tr>
              <Head by="id">Rule</Head><th scope="col">Fires when</th><th scope="col">Action</th><th scope="col">Severity</th><th scope="col">Mode</th><th scope="col">State</th>
              <Head by="fired" right>Fired</Head><Head by="errors" right>Errors</Head><Head by="no_data" right title="Evaluations without a value to judge, as of an empty window">No data</Head><Head by="last_fired" right>Last fired, UTC</Head>
            </tr>
          </thead>
          <tbody>{rules.map((r) => <RuleRow key={r.id} {...flat(r)} windows={windowLines(windows, r.stream, r.id).join('\n')} today={today} />)}</tbody>
        </table>
        {rules.length === 0 && <p class="foot">No rule matches. <button type="button" class="link" onClick={() => { setQuery(''); failingOnly.value = false; warmingOnly.value = false; }}>Show all</button></p>}
      </div>
    </section>
  );
}

function Head({ by, right, title, children }: { by: Column; right?: boolean; title?: string; children: string }): JSX.Element {
  const { by: now, down } = order.value;
  const sort = now === by ? (down ? 'descending' : 'ascending') : 'none';
  const next = (): void => {
    if (now !== by) order.value = { by, down: by !== 'id' };
    else order.value = down === (by !== 'id') ? { by, down: !down } : { by: null, down: true };
  };
  return (
    <th scope="col" class={right ? 'right' : ''} aria-sort={sort} title={title}>
      <button type="button" class={`sort is-${sort}`} onClick={next}>{children}</button>
    </th>
  );
}

/** What a rule does now, and how far its windows are where they are being made. */
function State({ r }: { r: Omit<Rule, 'evaluated'> }): JSX.Element {
  if (!r.state) return <span class="unit">unknown</span>;
  const since = r.since ? `declared as it is at ${fullTime(r.since)} UTC` : undefined;
  if (r.state !== 'warming') return <span class={`state is-${r.state}`} title={since}>{r.state}</span>;
  const w = r.warming ?? { percent: 0, rows: 0, of: 0 };
  return (
    <span class="state is-warming" title={`Its windows are made from the log; until then what was declared under its id before decides. It was ${since}`}>
      warming <span class="percent">{w.percent.toFixed(1)} %</span>
      <progress max={100} value={w.percent} aria-label={`windows of ${r.id}`} />
      <span class="sub">{short(w.rows)} of {short(w.of)} records</span>
      {r.since && <span class="sub">since <Instant time={r.since} /></span>}
    </span>
  );
}

/** A path that is broken behind its slashes rather than within a name. */
function Breakable({ text }: { text: string }): JSX.Element {
  return <>{text.split(/(?<=\/)/).map((part, i) => <Fragment key={i}>{i > 0 && <wbr />}{part}</Fragment>)}</>;
}

/** A rule's properties one by one, so that a row is drawn again only when one changes. */
function flat(r: Rule): Omit<Rule, 'evaluated'> {
  const { evaluated: _, ...rest } = r;
  return rest;
}

const RuleRow = memo(function RuleRow(r: Omit<Rule, 'evaluated'> & { windows: string; today: string }): JSX.Element {
  return (
    <tr class={`mode-${r.mode} ${troubled(r) ? 'has-error' : ''}`}>
      <th scope="row">
        <span class="rule">{r.id}</span>
        <span class="sub">{r.stream}</span>
        <span class="sub mono place" title={`${r.file}:${r.line}`}><Breakable text={place(r.file, r.line)} /></span>
      </th>
      <td class="when-cell">
        <div class="expression"><Cel text={r.when} /></div>
        {r.description && <p class="sub">{r.description}</p>}
        {r.windows && <p class="sub windows" title="What its windows hold, over all keys, and the time that they take; equal ones are kept once for all rules">{r.windows}</p>}
        {r.trouble && r.trouble !== r.last_error && <p class="rule-error"><Icon name="fail" label="Trouble" /> {r.trouble}</p>}
        {r.errors > 0 && r.last_error && <p class="rule-error"><Icon name="fail" label="Last error" /> {r.last_error}</p>}
      </td>
      <td data-label="Action"><Action name={r.action} /> <span class="unit score-of">{r.score}</span></td>
      <td data-label="Severity"><Severity level={r.severity} /></td>
      <td data-label="Mode"><span class={`mode is-${r.mode}`}>{r.mode}</span></td>
      <td data-label="State" class="state-cell"><State r={r} /></td>
      <td data-label="Fired" class="right strong">{r.fired > 0 && r.mode === 'live' ? <a href={href('alerts', withField('', 'rule', [r.id]))} title="Its alerts">{count(r.fired)}</a> : count(r.fired)}</td>
      <td data-label="Errors" class={`right ${r.errors > 0 ? 'tone-bad strong' : ''}`}>{count(r.errors)}</td>
      <td data-label="No data" class="right">{count(r.no_data)}</td>
      <td data-label="Last fired" class="right">{r.last_fired ? <Instant time={r.last_fired} /> : <span class="unit">never</span>}</td>
    </tr>
  );
});
