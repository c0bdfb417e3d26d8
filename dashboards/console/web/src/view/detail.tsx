// One alert with all that is known of it.
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import type { Entry } from '../model/alerts.js';
import type { Alert, Delivery } from '../model/api.js';
import { plain } from '../model/exact.js';
import { deliveryState, withField } from '../model/filter.js';
import { clockOf, fullTime, place } from '../model/format.js';
import { details, overview } from '../model/live.js';
import { href } from '../model/route.js';
import { Copy } from './clipboard.js';
import { Icon } from './icons.js';
import { Action, Ago, Cel, DeliveryMark, Severity } from './words.js';

/** Below this the detail covers the page and takes the focus. */
const modalWidth = 900;

interface Props {
  entry: Entry;
  onClose: () => void;
  onStep: (n: number) => void;
}

export function Detail({ entry, onClose, onStep }: Props): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const d = dialog.current;
    const back = document.activeElement;
    if (!d || d.open) return undefined;
    if (innerWidth < modalWidth) d.showModal();
    else {
      d.show();
      if (back instanceof HTMLElement) back.focus({ preventScroll: true }); // the arrow keys stay with the list
    }
    return () => {
      if (back instanceof HTMLElement && back.isConnected) back.focus({ preventScroll: true });
    };
  }, []);
  const a = entry.alert;
  return (
    <dialog ref={dialog} class="detail" aria-label={`Alert of ${a.rule}`} onCancel={(e) => { e.preventDefault(); onClose(); }}>
      <header class="detail-top">
        <Severity level={a.severity} />
        <h2>{a.rule}</h2>
        <button type="button" class="quiet" onClick={() => onStep(-1)} aria-label="Newer alert" title="Newer (arrow up)"><Icon name="previous" /></button>
        <button type="button" class="quiet" onClick={() => onStep(1)} aria-label="Older alert" title="Older (arrow down)"><Icon name="next" /></button>
        <button type="button" class="quiet" onClick={onClose} aria-label="Close" title="Close (Esc)"><Icon name="close" /></button>
      </header>
      <div class="detail-body" tabIndex={0} role="group" aria-label="Alert">
        <p class="detail-message">{a.message}</p>
        <Facts a={a} at={entry.at} />
        <Values a={a} />
        <TheRule a={a} />
        <Deliveries a={a} />
        <Origin a={a} />
        <Part title="JSON">
          <pre class="json" tabIndex={0}><code>{JSON.stringify(a, null, 2)}</code></pre>
          <div class="buttons"><Copy text={() => JSON.stringify(a, null, 2)} label="Copy JSON" /></div>
        </Part>
      </div>
    </dialog>
  );
}

function Part({ title, children, aside }: { title: string; children: ComponentChildren; aside?: ComponentChildren }): JSX.Element {
  return (
    <section class="part">
      <h3>{title}{aside && <span class="part-aside">{aside}</span>}</h3>
      {children}
    </section>
  );
}

function Facts({ a, at }: { a: Alert; at: number }): JSX.Element {
  return (
    <dl class="facts">
      <div class="wide"><dt>Event time, UTC</dt><dd class="mono">{fullTime(a.time)} <span class="unit"><Ago at={at} /></span></dd></div>
      <div><dt>Key</dt><dd class="mono">{a.key} <FilterLink name="key" value={a.key} /></dd></div>
      <div><dt>Stream</dt><dd>{a.stream} <FilterLink name="stream" value={a.stream} /></dd></div>
      <div><dt>Action</dt><dd><Action name={a.action} /></dd></div>
      <div><dt>Score</dt><dd class="mono">{String(a.score)}</dd></div>
    </dl>
  );
}

function FilterLink({ name, value }: { name: 'key' | 'rule' | 'stream'; value: string }): JSX.Element {
  return <a class="filter-link" href={href('alerts', withField('', name, [value]))} title={`All alerts of this ${name}`}><Icon name="filter" label={`All alerts of this ${name}`} /></a>;
}

function Values({ a }: { a: Alert }): JSX.Element {
  const values = Object.entries(a.values);
  return (
    <Part title="Values that fired it">
      {values.length === 0 ? <p class="unit">The rule names no value.</p> : (
        <dl class="values-list">
          {values.map(([name, value]) => (
            <div key={name}>
              <dt><Cel text={name} /></dt>
              <dd class="mono"><span class="equals" aria-hidden="true">=</span><b>{plain(value)}</b></dd>
            </div>
          ))}
        </dl>
      )}
    </Part>
  );
}

function TheRule({ a }: { a: Alert }): JSX.Element {
  const rule = overview.value?.rules.find((r) => r.id === a.rule);
  return (
    <Part title="Rule" aside={<><a href={href('rules', a.rule)}>{a.rule}</a> <FilterLink name="rule" value={a.rule} /></>}>
      {rule ? (
        <>
          <div class="expression"><Cel text={rule.when} /></div>
          <p class="unit">{rule.description ? `${rule.description} ` : ''}<span title={`${rule.file}:${rule.line}`}>{place(rule.file, rule.line)}</span>. As it is now; it may have changed since.</p>
        </>
      ) : <p class="unit">It is no longer among the rules in force.</p>}
    </Part>
  );
}

function Deliveries({ a }: { a: Alert }): JSX.Element {
  const list = a.deliveries ?? [];
  return (
    <Part title="Delivery" aside={<DeliveryMark state={deliveryState(a)} />}>
      {list.length === 0 ? <p class="unit">No attempt is recorded yet.</p> : <ol class="attempts">{list.map((d, i) => <Attempt key={i} d={d} />)}</ol>}
    </Part>
  );
}

function Attempt({ d }: { d: Delivery }): JSX.Element {
  const tone = { delivered: 'ok', retry: 'warn', failed: 'bad' }[d.outcome] ?? '';
  return (
    <li class={`tone-${tone}`}>
      <span class="mono">{clockOf(d.time)}</span> <b>{d.receiver}</b> <span class="unit">attempt {d.attempt}</span> <span class="outcome">{d.outcome === 'retry' ? 'will retry' : d.outcome}</span>{d.status > 0 && <span class="mono unit"> HTTP {d.status}</span>}
      {d.error && <div class="attempt-error">{d.error}</div>}
    </li>
  );
}

const identifier = (name: string): string => `"${name.replace(/"/g, '""')}"`;
const literal = (text: string): string => `'${text.replace(/'/g, "''")}'`;

function Origin({ a }: { a: Alert }): JSX.Element {
  const s = details.value.find((d) => d.name === a.stream);
  const event = `SELECT * FROM ${identifier(a.stream)}\nWHERE _partition = ${a.partition} AND _offset = ${String(a.offset)}`;
  const others = s?.key && s.time ? `SELECT * FROM ${identifier(a.stream)}\nWHERE ${identifier(s.key)} = ${literal(a.key)} AND ${identifier(s.time)} <= ${literal(fullTime(a.time))}\nORDER BY ${identifier(s.time)} DESC\nLIMIT 50` : '';
  return (
    <Part title="Origin">
      <dl class="facts three">
        <div><dt>Topic</dt><dd class="mono">{a.topic}</dd></div>
        <div><dt>Partition</dt><dd class="mono">{a.partition}</dd></div>
        <div><dt>Offset</dt><dd class="mono">{String(a.offset)}</dd></div>
      </dl>
      <div class="buttons">
        <a class="button" href={href('sql', event)}><Icon name="sql" /> The event</a>
        {others && <a class="button" href={href('sql', others)}><Icon name="sql" /> This key's events before it</a>}
      </div>
    </Part>
  );
}
