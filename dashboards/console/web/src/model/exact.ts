// JSON without rounding. A browser reads 9007199254740993 as ...992 and 12.50 as
// 12.5; an analyst must see what the rule saw, so numbers that would change are
// kept as their text.

/** A number as its JSON text, where a double would change it. */
export class Exact {
  constructor(readonly text: string) {}

  toString(): string {
    return this.text;
  }

  toJSON(): unknown {
    return rawJSON ? rawJSON(this.text) : Number(this.text);
  }
}

export type Json = string | number | boolean | null | Exact | Json[] | { [name: string]: Json };

interface SourceContext {
  source?: string;
}

// Both arrived together in 2023-2025; an older browser shows doubles.
const rawJSON = (JSON as unknown as { rawJSON?: (text: string) => unknown }).rawJSON;

/** JSON.parse, except for numbers that would not print as they were written. */
export function parseExact(text: string): Json {
  const keep = (_name: string, value: unknown, context?: SourceContext): unknown => {
    const source = context?.source;
    return typeof value === 'number' && source !== undefined && String(value) !== source ? new Exact(source) : value;
  };
  return JSON.parse(text, keep as (name: string, value: unknown) => unknown) as Json;
}

/** A value as one short line: strings bare, the rest as JSON. */
export function plain(value: Json | undefined): string {
  if (value === undefined) return '';
  if (typeof value === 'string') return value;
  if (value instanceof Exact) return value.text;
  if (value === null || typeof value !== 'object') return String(value);
  return JSON.stringify(value);
}
