// The shapes of the REST API, and the calls. All times are RFC 3339 in UTC.
import { parseExact, type Exact, type Json } from './exact.js';

export interface Field {
  name: string;
  type: string;
  optional?: boolean;
  from?: string;
  layout?: string;
  sensitive?: string;
}

export interface Stream {
  name: string;
  topic: string;
  alias?: string;
  declared?: string;
  version?: number;
  partitions: number;
  format: string;
  key: string;
  time?: string;
  fields?: Field[];
  events: number;
  events_per_second: number;
  watermark: string | null;
  lag: number;
  late: number;
  dead_letters: number;
  decisions: number;
  alerts: number;
}

export interface Rule {
  id: string;
  stream: string;
  when: string;
  action: string;
  severity: string;
  mode: string;
  score: number;
  message: string;
  description?: string;
  file: string;
  line: number;
  evaluated: number;
  fired: number;
  no_data: number;
  errors: number;
  last_error?: string;
  last_fired: string | null;
  /** A server of before says nothing of it. */
  state?: 'active' | 'warming' | 'failing' | 'off';
  /** When it was declared as it is. */
  since?: string | null;
  warming?: Warming;
  /** Why it is failing, or why its windows could not be made. */
  trouble?: string;
}

/** How far the windows of a rule are made from the log. */
export interface Warming {
  percent: number;
  rows: number;
  of: number;
}

/** A partition of a keyed stream: the events of some streams brought together by another key. */
export interface Keyed {
  topic: string;
  partition: number;
  key: string[];
  sources: string[];
  rules: string[];
  /** Blocks of events. */
  lag: number;
  watermark: string | null;
  rows: number;
  bytes: number;
  trouble?: string;
  /** kept: no declared rule needs it. */
  state: 'active' | 'kept';
  kept_until?: string;
}

/** What keeps the windows with one key and one condition, for all rules that read them. */
export interface Operator {
  stream: string;
  name: string;
  rules: string[];
  keys: number;
  events: number;
  bytes: number;
  capped_keys: number;
  ns_per_event: number;
}

export interface Overview {
  version: string;
  started: string;
  program: string;
  /** What keeps parts of the node from their work, one line each. */
  trouble?: string[] | null;
  streams: Stream[];
  rules: Rule[];
  keyed?: Keyed[] | null;
  alerts: { total: number; per_minute: number };
  decisions: { total: number };
  deliveries: { delivered: number; retrying: number; failed: number };
  sql: { lag: number; age_ms: number };
  log: { bytes: number; topics: number };
}

export interface Delivery {
  time: string;
  receiver: string;
  attempt: number;
  outcome: string;
  status: number;
  error?: string;
}

export interface Alert {
  id: string;
  time: string;
  rule: string;
  stream: string;
  key: string;
  severity: string;
  score: number | Exact;
  action: string;
  message: string;
  values: { [name: string]: Json };
  topic: string;
  partition: number;
  offset: number | Exact;
  deliveries?: Delivery[];
}

export interface AlertPage {
  alerts: Alert[];
  next?: string;
}

export interface Freshness {
  name: string;
  partition?: number;
  offset?: number | Exact;
  watermark?: string | null;
  age_ms?: number | Exact;
}

export interface Result {
  columns: { name: string; type: string }[];
  rows: Json[][];
  elapsed_ms: number | Exact;
  truncated: boolean;
  freshness?: Freshness[];
}

/** An error answer as RFC 9457 writes it, or the failure to get any answer. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly places: { message: string; location?: string }[] = [],
  ) {
    super(message);
  }
}

interface Problem {
  title?: string;
  detail?: string;
  errors?: { message: string; location?: string }[] | null;
}

async function call<T>(path: string, init: RequestInit = {}): Promise<T> {
  let answer: Response;
  try {
    answer = await fetch(path, init);
  } catch (err) {
    if (init.signal?.aborted) throw err;
    throw new ApiError('the server does not answer', 0);
  }
  const text = await answer.text();
  if (answer.ok) return parseExact(text) as T;
  let problem: Problem;
  try {
    problem = JSON.parse(text) as Problem;
  } catch {
    problem = { detail: text.trim() };
  }
  throw new ApiError(problem.detail || problem.title || `the server answered ${answer.status}`, answer.status, problem.errors ?? []);
}

function withSignal(signal: AbortSignal | undefined): RequestInit {
  return signal ? { signal } : {};
}

export const getOverview = (): Promise<Overview> => call('/v1/overview');

export const getStreams = (): Promise<Stream[]> => call('/v1/streams');

export const getOperators = (): Promise<Operator[]> => call('/v1/operators');

export function getAlerts(params: Record<string, string | number>, signal?: AbortSignal): Promise<AlertPage> {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value !== '') query.set(name, String(value));
  return call(`/v1/alerts?${query}`, withSignal(signal));
}

export function runQuery(query: string, signal?: AbortSignal): Promise<Result> {
  return call('/v1/sql', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ query }), ...withSignal(signal) });
}
