// A question in SQL, and its answer with how fresh it is.
import { signal } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { ApiError, runQuery, type Freshness, type Result } from '../model/api.js';
import { plain } from '../model/exact.js';
import { fullTime, count, plural, span } from '../model/format.js';
import { overview } from '../model/live.js';
import { queries, route, setQuery } from '../model/route.js';
import { Icon } from './icons.js';

/** More rows than this are not drawn. */
const rowsMax = 500;

const text = signal('');
const running = signal(false);
const result = signal<Result | null>(null);
const failure = signal<ApiError | null>(null);
let asked = '';
const cameWith = route.peek().view === 'sql' ? route.peek().query : '';
let abort: AbortController | undefined;

async function run(): Promise<void> {
  const query = text.peek().trim();
  if (query === '') return;
  abort?.abort();
  const mine = (abort = new AbortController());
  running.value = true;
  failure.value = null;
  asked = query;
  setQuery(query);
  try {
    const answer = await runQuery(query, mine.signal);
    if (!mine.signal.aborted) result.value = answer;
  } catch (err) {
    if (mine.signal.aborted) return;
    result.value = null;
    failure.value = err instanceof ApiError ? err : new ApiError(String(err), 0);
  } finally {
    if (abort === mine) running.value = false;
  }
}

function cancel(): void {
  abort?.abort();
  running.value = false;
}

export function SqlView(): JSX.Element {
  const box = useRef<HTMLTextAreaElement>(null);
  const given = route.value.view === 'sql' ? route.value.query : '';
  // A link from an alert or a stream brings its query and asks it at once. One
  // that came with the page, perhaps from elsewhere, waits for the reader.
  useEffect(() => {
    if (given === '' || given === asked) return;
    text.value = given;
    if (given !== cameWith) void run();
  }, [given]);
  useEffect(() => {
    if (text.peek() === '') text.value = queries.peek().sql;
    box.current?.focus({ preventScroll: true });
  }, []);
  return (
    <section class="page sql" aria-label="SQL">
      <form class="sql-form" onSubmit={(e) => { e.preventDefault(); void run(); }}>
        <label class="hidden" for="sql-text">Query</label>
        <textarea id="sql-text" ref={box} data-search rows={5} spellcheck={false} autocomplete="off" autocapitalize="off" value={text.value} placeholder={'SELECT rule, count(*) FROM alerts GROUP BY rule ORDER BY 2 DESC'} onInput={(e) => (text.value = e.currentTarget.value)} onKeyDown={(e) => { if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) { e.preventDefault(); void run(); } }} />
        <div class="sql-side">
          {running.value ? <button type="button" class="button primary" onClick={cancel}><Icon name="close" /> Cancel</button> : <button type="submit" class="button primary"><Icon name="run" /> Run</button>}
          <span class="unit">Ctrl + Enter</span>
          <Samples />
        </div>
      </form>
      <div class="scroll" tabIndex={0} role="group" aria-label="Answer">
        {failure.value && <Failure err={failure.value} />}
        {running.value && <p class="foot">Running…</p>}
        {result.value && !failure.value && <Answer r={result.value} />}
        {!result.value && !failure.value && !running.value && <p class="foot">Each stream is a table under its name, beside <code>decisions</code>, <code>alerts</code>, <code>deliveries</code> and <code>deadletters</code>. The same at any PostgreSQL client.</p>}
      </div>
    </section>
  );
}

function Samples(): JSX.Element {
  const s = overview.value?.streams[0];
  const samples: [string, string][] = [
    ['Alerts by rule', 'SELECT rule, severity, count(*) AS alerts, max(time) AS newest\nFROM alerts\nGROUP BY rule, severity\nORDER BY alerts DESC'],
    ['Failed deliveries', "SELECT *\nFROM deliveries\nWHERE outcome = 'failed'\nORDER BY time DESC\nLIMIT 50"],
    ['Freshness', 'SELECT * FROM weir_freshness'],
  ];
  if (s?.key) samples.unshift([`Busiest ${s.key}`, `SELECT "${s.key}", count(*) AS events\nFROM "${s.name}"\nGROUP BY "${s.key}"\nORDER BY events DESC\nLIMIT 20`]);
  return (
    <div class="samples" role="group" aria-label="Examples">
      {samples.map(([name, query]) => <button key={name} type="button" class="link" onClick={() => { text.value = query; void run(); }}>{name}</button>)}
    </div>
  );
}

/** The query's line under which an error belongs: its place is "body.query character 31", from 1. */
function caret(err: ApiError): string {
  for (const p of err.places) {
    const at = /character (\d+)/.exec(p.location ?? '');
    if (!at) continue;
    const characters = [...asked];
    const before = characters.slice(0, Number(at[1]) - 1).join('').split('\n');
    const line = asked.split('\n')[before.length - 1];
    if (line !== undefined) return `${line}\n${' '.repeat([...(before[before.length - 1] ?? '')].length)}^ ${p.message}`;
  }
  return '';
}

function Failure({ err }: { err: ApiError }): JSX.Element {
  const mark = caret(err);
  return (
    <div class="failure" role="alert">
      <p><Icon name="fail" /> {err.message}</p>
      {mark ? <pre><code>{mark}</code></pre> : <ul>{err.places.map((p, i) => <li key={i}>{p.message}{p.location && <span class="unit"> at {p.location}</span>}</li>)}</ul>}
    </div>
  );
}

const numeric = /INT|DECIMAL|DOUBLE|FLOAT|REAL|NUMERIC/i;

function Answer({ r }: { r: Result }): JSX.Element {
  const rows = r.rows.slice(0, rowsMax);
  const right = r.columns.map((c) => (numeric.test(c.type) && !c.type.endsWith('[]') ? 'right' : ''));
  return (
    <>
      <p class="answer-note">
        <b>{plural(r.rows.length, 'row')}</b> in <b>{Number(r.elapsed_ms).toFixed(1)} ms</b>
        {r.truncated && <span class="tone-warn">, cut short by the server</span>}
        {r.rows.length > rowsMax && <span>, the first {count(rowsMax)} shown</span>}
        <FreshNote list={r.freshness ?? []} />
      </p>
      <table class="grid answer">
        <thead><tr>{r.columns.map((c, i) => <th key={i} scope="col" class={right[i]}>{c.name}<span class="sub">{c.type.toLowerCase()}</span></th>)}</tr></thead>
        <tbody>{rows.map((row, i) => <tr key={i}>{row.map((v, j) => <td key={j} class={`mono ${right[j]}`}>{v === null ? <span class="null">null</span> : plain(v)}</td>)}</tr>)}</tbody>
      </table>
    </>
  );
}

/** The oldest watermark and the greatest age of what was read. */
function FreshNote({ list }: { list: Freshness[] }): JSX.Element | null {
  if (list.length === 0) return null;
  const marks = list.map((f) => f.watermark).filter((w): w is string => typeof w === 'string').sort();
  const age = Math.max(...list.map((f) => Number(f.age_ms ?? 0)));
  const all = list.map((f) => `${f.name}/${f.partition ?? 0}: offset ${String(f.offset ?? '')}, watermark ${f.watermark ?? 'none'}, ${String(f.age_ms ?? 0)} ms old`).join('\n');
  return <span title={all}>{marks[0] && <>, complete to <b class="mono">{fullTime(marks[0]).slice(0, 19)}</b> UTC</>}, at most {span(age)} behind the log</span>;
}
