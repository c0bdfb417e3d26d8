// How numbers and times are written. Everything is UTC.

const grouped = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/** 1234567 -> "1,234,567" */
export function count(n: number): string {
  return grouped.format(n);
}

/** A rate per second: one decimal below ten, whole above. */
export function rate(n: number): string {
  if (n > 0 && n < 9.95) return n.toFixed(1);
  return grouped.format(n);
}

/** Short form for axes: 1500 -> "1.5k". */
export function short(n: number): string {
  for (const [unit, size] of [['G', 1e9], ['M', 1e6], ['k', 1e3]] as const) {
    if (Math.abs(n) >= size) return `${trim(n / size)}${unit}`;
  }
  return trim(n);
}

const trim = (n: number): string => (Math.round(n * 100) / 100).toString();

/** 1234567 -> "1.23 MB" */
export function bytes(n: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let i = 0;
  while (n >= 999.5 && i < units.length - 1) {
    n /= 1000;
    i++;
  }
  return `${i === 0 ? n : n.toPrecision(3)} ${units[i]}`;
}

/** "2018-04-01T00:00:31.5Z" -> "2018-04-01" */
export const dateOf = (time: string): string => time.slice(0, 10);

/** The clock of an RFC 3339 time in UTC, with `places` decimals of the second. */
export function clockOf(time: string, places = 3): string {
  const utc = inUTC(time);
  const whole = utc.slice(11, 19);
  if (places === 0) return whole;
  const digits = /^\.(\d+)/.exec(utc.slice(19))?.[1] ?? '';
  return `${whole}.${digits.padEnd(places, '0').slice(0, places)}`;
}

/** Date and clock with every digit that was given: nanoseconds stay. */
export function fullTime(time: string): string {
  const utc = inUTC(time);
  return `${utc.slice(0, 10)} ${utc.slice(11).replace(/Z$/, '')}`;
}

/** The server writes UTC; a time with an offset is turned, losing what is below a millisecond. */
function inUTC(time: string): string {
  return time.endsWith('Z') || Number.isNaN(Date.parse(time)) ? time : new Date(time).toISOString();
}

/** Milliseconds as "41 ms", "3.2 s", "5 min". */
export function span(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  return ago(ms);
}

/** A whole span in its largest sensible unit: "12 s", "3 min", "5 h", "2 d", "8.6 y". */
export function ago(ms: number): string {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h`;
  const days = Math.floor(s / 86_400);
  if (days < 365) return `${days} d`;
  return `${(days / 365.25).toFixed(1)} y`;
}

/** "12 s ago", or "in 3 s" for a clock that is ahead. */
export function relative(then: number, now: number): string {
  return then > now + 1000 ? `in ${ago(then - now)}` : `${ago(now - then)} ago`;
}

/** A file's place, short: "/srv/weir/rules/cards.yaml", 18 -> "rules/cards.yaml:18" */
export function place(file: string, line: number): string {
  return `${file.split('/').slice(-2).join('/')}:${line}`;
}

/** "1 stream", "3 streams" */
export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}
