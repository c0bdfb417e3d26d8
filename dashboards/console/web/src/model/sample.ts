// An event and a rule to begin with, made of what a stream declares.
import type { Field, Stream } from './api.js';

/** A record that fits the stream. */
export function sampleEvent(s: Stream, now: Date): string {
  const fields: Field[] = s.fields ?? [{ name: s.key || 'id', type: 'string' }];
  if (s.format === 'csv') return fields.map((f) => String(sampleValue(f, now))).join(',');
  const event: Record<string, unknown> = {};
  for (const f of fields) {
    const path = (f.from || f.name).split('.');
    let at = event;
    for (const part of path.slice(0, -1)) at = (at[part] ??= {}) as Record<string, unknown>;
    at[path[path.length - 1] ?? f.name] = sampleValue(f, now);
  }
  return JSON.stringify(event);
}

function sampleValue({ name, type, layout = '' }: Field, now: Date): string | number | boolean {
  if (type === 'timestamp') return timeIn(layout, now);
  if (type === 'bool') return false;
  if (type === 'int64') return 1;
  return type === 'double' ? 1.5 : type.startsWith('decimal') ? 12 : `${name}-1`;
}

const units: Record<string, number> = { unix: 1, unix_ms: 1e3, unix_us: 1e6, unix_ns: 1e9 };

function timeIn(layout: string, now: Date): string | number {
  const iso = now.toISOString();
  const unit = units[layout];
  if (unit) return Math.floor(now.getTime() / 1000) * unit;
  if (!layout.includes('%')) return `${iso.slice(0, 19)}Z`;
  const parts: Record<string, string> = { Y: iso.slice(0, 4), m: iso.slice(5, 7), d: iso.slice(8, 10), H: iso.slice(11, 13), M: iso.slice(14, 16), S: iso.slice(17, 19), f: '000000', F: iso.slice(0, 10), T: iso.slice(11, 19), z: '+0000', '%': '%' };
  return layout.replace(/%(.)/g, (all, c: string) => parts[c] ?? all);
}

/** A rule with a window by the stream's key. */
export function sampleRule(s: Stream | undefined): string {
  const alias = s?.alias || s?.name || 'tx';
  const key = s?.key || 'card';
  const type = s?.fields?.find((f) => f.name === key)?.type ?? 'string';
  const shown = type === 'string' ? `${alias}.${key}` : `string(${alias}.${key})`;
  return `id: busy-${key}\nstream: ${s?.name ?? 'transactions'}\nwhen: last("1h").by(${alias}.${key}).count() >= 4\naction: review\nseverity: medium\nscore: 40\nmode: live\nmessage: '"${key} " + ${shown} + " is busy"'`;
}
