// The alert filter: what the search box says, as text and as a test.
//
//   rule:card-testing key:"A 17" severity:high,critical tested
//
// Words without a name must all occur somewhere in the alert.
import type { Alert } from './api.js';
import { plain } from './exact.js';

export const severities = ['critical', 'high', 'medium', 'low'] as const;

const names = ['rule', 'key', 'stream', 'severity', 'action', 'delivery'] as const;
export type FilterName = (typeof names)[number];

export interface Filter {
  fields: Partial<Record<FilterName, string[]>>;
  words: string[];
}

interface Token {
  name: FilterName | undefined;
  text: string;
  /** the token as it stands in the box */
  raw: string;
}

function tokens(query: string): Token[] {
  const out: Token[] = [];
  for (const match of query.matchAll(/(?:(\w+):)?(?:"((?:[^"\\]|\\.)*)"?|(\S+))/g)) {
    const [raw, name, quoted, bare] = match;
    const text = quoted !== undefined ? quoted.replace(/\\(.)/g, '$1') : (bare ?? '');
    const known = names.find((n) => n === name?.toLowerCase());
    if (known) out.push({ name: known, text, raw });
    else out.push({ name: undefined, text: name === undefined ? text : `${name}:${text}`, raw });
  }
  return out;
}

export function parseFilter(query: string): Filter {
  const filter: Filter = { fields: {}, words: [] };
  for (const { name, text, raw } of tokens(query)) {
    if (!name) {
      filter.words.push(text.toLowerCase());
      continue;
    }
    const several = name === 'severity' || name === 'action' || name === 'delivery';
    const values = several && !raw.includes('"') ? text.split(',').filter(Boolean) : [text];
    filter.fields[name] = [...(filter.fields[name] ?? []), ...values];
  }
  return filter;
}

const quote = (text: string): string => (/^[^\s"\\]+$/.test(text) ? text : `"${text.replace(/["\\]/g, '\\$&')}"`);

/** The query with `name` asking for exactly `values`; none removes it. */
export function withField(query: string, name: FilterName, values: string[]): string {
  const rest = tokens(query).filter((t) => t.name !== name).map((t) => t.raw);
  if (values.length === 0) return rest.join(' ');
  const several = name === 'severity' || name === 'action' || name === 'delivery';
  const token = several ? [`${name}:${values.join(',')}`] : values.map((v) => `${name}:${quote(v)}`);
  return [...token, ...rest].join(' ');
}

/** The query with one value of `name` switched on or off. */
export function toggled(query: string, name: FilterName, value: string): string {
  const now = parseFilter(query).fields[name] ?? [];
  const single = name === 'rule' || name === 'key' || name === 'stream';
  if (now.includes(value)) return withField(query, name, now.filter((v) => v !== value));
  return withField(query, name, single ? [value] : [...now, value]);
}

export function isEmpty(filter: Filter): boolean {
  return filter.words.length === 0 && Object.keys(filter.fields).length === 0;
}

/** What the server can filter by: one value each. */
export function serverParams(filter: Filter): Record<string, string> {
  const out: Record<string, string> = {};
  for (const name of ['rule', 'key', 'stream', 'severity'] as const) {
    const values = filter.fields[name];
    const only = values?.length === 1 ? values[0] : undefined;
    if (only === undefined) continue;
    // A severity that does not exist would be refused; the local test then finds nothing.
    if (name === 'severity' && !severities.some((s) => s === only)) continue;
    out[name] = only;
  }
  return out;
}

export type DeliveryState = 'delivered' | 'retrying' | 'failed' | 'pending';

/** The state of an alert's delivery: the worst over its receivers' last attempts. */
export function deliveryState(alert: Pick<Alert, 'deliveries'>): DeliveryState {
  const last = new Map<string, string>();
  for (const d of alert.deliveries ?? []) last.set(d.receiver, d.outcome);
  const outcomes = [...last.values()];
  if (outcomes.includes('failed')) return 'failed';
  if (outcomes.includes('retry')) return 'retrying';
  return outcomes.length > 0 ? 'delivered' : 'pending';
}

/** All of an alert's text in lower case, for words to be found in. */
export function haystack(a: Alert): string {
  const values = Object.entries(a.values).map(([name, value]) => `${name} = ${plain(value)}`);
  return [a.rule, a.stream, a.key, a.severity, a.action, a.message, a.id, ...values].join('\n').toLowerCase();
}

export function matches(filter: Filter, a: Alert, hay: string, skip?: FilterName): boolean {
  for (const name of names) {
    const wanted = filter.fields[name];
    if (!wanted || name === skip) continue;
    const value = name === 'delivery' ? deliveryState(a) : a[name];
    if (!wanted.includes(value)) return false;
  }
  return filter.words.every((w) => hay.includes(w));
}
