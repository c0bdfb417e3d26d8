// What the windows of the rules hold and cost, for as long as somebody looks at it.
import { signal } from '@preact/signals';
import { getOperators, type Operator } from './api.js';
import { bytes, count, plural } from './format.js';

export const operators = signal<Operator[]>([]);

/** A server changes them with each event; nobody reads them that fast. */
const askEvery = 5_000;

/** Asks again and again until the function that it returns is called. */
export function watchOperators(): () => void {
  const ask = (): void => {
    // Where there is no answer the page says so at its top; what was known stays.
    getOperators().then((all) => { operators.value = all; }, () => undefined);
  };
  ask();
  const timer = setInterval(ask, askEvery);
  return () => clearInterval(timer);
}

/** The windows of a rule, one line each. */
export function windowLines(all: Operator[], stream: string, rule: string): string[] {
  return all
    .filter((o) => o.stream === stream && o.rules.includes(rule))
    .map((o) => {
      const capped = o.capped_keys > 0 ? `, events of ${plural(o.capped_keys, 'key')} left out` : '';
      return `${o.name}: ${plural(o.keys, 'key')}, ${plural(o.events, 'event')}, ${bytes(o.bytes)}, ${count(o.ns_per_event)} ns an event${capped}`;
    });
}
