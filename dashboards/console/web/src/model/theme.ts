// Light or dark: the system's choice until the reader makes one, which stays.
import { computed, signal } from '@preact/signals';

export type Theme = 'light' | 'dark';

const dark = matchMedia('(prefers-color-scheme: dark)');
const system = signal<Theme>(dark.matches ? 'dark' : 'light');
dark.addEventListener('change', () => (system.value = dark.matches ? 'dark' : 'light'));

const asTheme = (s: string | undefined): Theme | undefined => (s === 'light' || s === 'dark' ? s : undefined);
const chosen = signal<Theme | undefined>(asTheme(document.documentElement.dataset['theme']));

export const theme = computed<Theme>(() => chosen.value ?? system.value);

export function toggleTheme(): void {
  const next: Theme = theme.peek() === 'dark' ? 'light' : 'dark';
  document.documentElement.dataset['theme'] = next;
  chosen.value = next;
  try {
    localStorage.setItem('weir-theme', next);
  } catch {
    // Storage may be off; the choice then lasts as long as the page.
  }
}
