import { signal } from '@preact/signals';
import type { JSX } from 'preact';
import { Icon } from './icons.js';

/** Which rows of a table are open, by their names. */
export class Expanded {
  private readonly names = signal<ReadonlySet<string>>(new Set());

  has(name: string): boolean {
    return this.names.value.has(name);
  }

  open(name: string): void {
    this.names.value = new Set(this.names.peek()).add(name);
  }

  toggle(name: string): void {
    const next = new Set(this.names.peek());
    if (!next.delete(name)) next.add(name);
    this.names.value = next;
  }
}

/** The button that opens and closes a row. */
export function Expand({ rows, name, children }: { rows: Expanded; name: string; children: string }): JSX.Element {
  return <button type="button" class="expand" aria-expanded={rows.has(name)} onClick={() => rows.toggle(name)}><Icon name="right" />{children}</button>;
}
