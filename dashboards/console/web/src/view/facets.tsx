// What the alerts at hand are made of: counts by rule, stream, action and
// delivery, each a filter.
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import * as store from '../model/alerts.js';
import { deliveryState, matches, parseFilter, toggled, type FilterName } from '../model/filter.js';
import { count } from '../model/format.js';
import { queries, setQuery } from '../model/route.js';

/** Counts by value of one field, over the alerts that pass all other filters. */
export function facet(name: FilterName): Map<string, number> {
  void store.deliveryTick.value;
  const out = new Map<string, number>();
  for (const e of store.known.value) {
    if (!matches(store.filter.value, e.alert, e.hay, name)) continue;
    const value = name === 'delivery' ? deliveryState(e.alert) : e.alert[name];
    out.set(value, (out.get(value) ?? 0) + 1);
  }
  return out;
}

const groups: { name: FilterName; title: string; most: number }[] = [
  { name: 'rule', title: 'Rule', most: 12 },
  { name: 'stream', title: 'Stream', most: 6 },
  { name: 'action', title: 'Action', most: 4 },
  { name: 'delivery', title: 'Delivery', most: 4 },
];

export function Facets(): JSX.Element {
  const n = store.known.value.length;
  return (
    <aside class="facets" aria-label="Narrow the list">
      <p class="facets-note">{n > 0 ? `In the ${count(n)} newest alerts` : 'No alerts yet'}</p>
      {groups.map((g) => <Group key={g.name} {...g} />)}
    </aside>
  );
}

function Group({ name, title, most }: { name: FilterName; title: string; most: number }): JSX.Element | null {
  const [all, setAll] = useState(false);
  const counts = [...facet(name)].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  const on = parseFilter(queries.value.alerts).fields[name] ?? [];
  for (const value of on) if (!counts.some(([v]) => v === value)) counts.push([value, 0]);
  if (counts.length === 0) return null;
  const top = counts[0]?.[1] ?? 1;
  const shown = all ? counts.slice(0, 100) : counts.slice(0, most);
  return (
    <section class="facet">
      <h3>{title}</h3>
      <ul>
        {shown.map(([value, n]) => (
          <li key={value}>
            <button type="button" aria-pressed={on.includes(value)} onClick={() => setQuery(toggled(queries.peek().alerts, name, value))} title={value}>
              <span class="facet-bar" style={{ width: `${top > 0 ? (100 * n) / top : 0}%` }} />
              <span class="facet-name">{value || 'none'}</span>
              <span class="facet-count">{count(n)}</span>
            </button>
          </li>
        ))}
      </ul>
      {counts.length > most && <button type="button" class="link" onClick={() => setAll(!all)}>{all ? 'fewer' : `${counts.length - most} more`}</button>}
    </section>
  );
}
