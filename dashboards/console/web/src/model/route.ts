// Where the reader is: #/alerts?q=..., so that a view can be sent as a link.
import { effect, signal } from '@preact/signals';

export const views = ['alerts', 'streams', 'rules', 'sql'] as const;
export type View = (typeof views)[number];

export interface Route {
  view: View;
  query: string;
}

function read(): Route {
  const [path = '', search = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const view = views.find((v) => v === path) ?? 'alerts';
  return { view, query: new URLSearchParams(search).get('q') ?? '' };
}

export const route = signal<Route>(read());

/** The last query of each view, so that a look elsewhere does not lose it. */
export const queries = signal<Record<View, string>>({ alerts: '', streams: '', rules: '', sql: '' });

effect(() => {
  const { view, query } = route.value;
  if (queries.peek()[view] !== query) queries.value = { ...queries.peek(), [view]: query };
});

export function href(view: View, query = ''): string {
  return query ? `#/${view}?q=${encodeURIComponent(query)}` : `#/${view}`;
}

/** Changes the query of the view in place: typing leaves no trail in the history. */
export function setQuery(query: string): void {
  route.value = { ...route.value, query };
  history.replaceState(null, '', href(route.value.view, query));
}

export function go(view: View, query = ''): void {
  location.hash = href(view, query);
}

addEventListener('hashchange', () => {
  const next = read();
  if (next.view !== route.value.view || next.query !== route.value.query) route.value = next;
});
