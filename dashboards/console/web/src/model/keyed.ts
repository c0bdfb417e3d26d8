// Keyed streams, put together from their partitions.
import type { Keyed } from './api.js';

/** Lag, rows and bytes are sums; the watermark is the least of the partitions that have one. */
export interface KeyedStream extends Omit<Keyed, 'partition' | 'trouble' | 'state' | 'kept_until'> {
  parts: Keyed[];
  troubles: string[];
  kept: boolean;
  keptUntil: string | null;
}

/** One for each topic: those that rules need first, then by name. */
export function keyedStreams(all: Keyed[]): KeyedStream[] {
  const byTopic = new Map<string, KeyedStream>();
  for (const k of all) {
    let s = byTopic.get(k.topic);
    if (!s) {
      s = { topic: k.topic, parts: [], key: k.key, sources: k.sources, rules: k.rules, lag: 0, watermark: null, rows: 0, bytes: 0, troubles: [], kept: k.state === 'kept', keptUntil: k.kept_until ?? null };
      byTopic.set(k.topic, s);
    }
    s.parts.push(k);
    s.lag += k.lag;
    s.rows += k.rows;
    s.bytes += k.bytes;
    if (k.trouble) s.troubles.push(k.trouble);
    if (k.watermark !== null && (s.watermark === null || Date.parse(k.watermark) < Date.parse(s.watermark))) s.watermark = k.watermark;
  }
  return [...byTopic.values()].sort((a, b) => Number(a.kept) - Number(b.kept) || (a.topic < b.topic ? -1 : 1));
}
