// One clock for the whole page, so that all relative times tick together.
import { signal } from '@preact/signals';

export const now = signal(Date.now());

export function startClock(): void {
  const tick = (): void => {
    now.value = Date.now();
    setTimeout(tick, 1000 - (Date.now() % 1000));
  };
  tick();
}
