// Small line icons, drawn on a 16 by 16 grid.
import type { JSX } from 'preact';

const paths = {
  search: 'M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9M10.4 10.4 14 14',
  close: 'M3.5 3.5l9 9M12.5 3.5l-9 9',
  pause: 'M5.5 3.5v9M10.5 3.5v9',
  play: 'M5 3.2v9.6L12.6 8z',
  up: 'M8 13V3.5M4 7.2 8 3.2l4 4',
  previous: 'M3.5 10 8 5.5l4.5 4.5',
  next: 'M3.5 6 8 10.5 12.5 6',
  right: 'M6 3.5 10.5 8 6 12.5',
  sun: 'M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6M8 1.2v1.6M8 13.2v1.6M1.2 8h1.6M13.2 8h1.6M3.2 3.2l1.1 1.1M11.7 11.7l1.1 1.1M12.8 3.2l-1.1 1.1M4.3 11.7l-1.1 1.1',
  moon: 'M13.3 9.6A5.6 5.6 0 0 1 6.4 2.7a5.6 5.6 0 1 0 6.9 6.9z',
  check: 'M3 8.6 6.4 12 13 4.6',
  retry: 'M13 8a5 5 0 1 1-1.6-3.7M13 1.8v3h-3',
  fail: 'M8 2.2v7.3M8 12.9v.3',
  wait: 'M3.2 8h.1M7.95 8h.1M12.7 8h.1',
  copy: 'M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z',
  filter: 'M2 3.5h12M4.5 8h7M6.8 12.5h2.4',
  alerts: 'M8 2.2 14.4 13.4H1.6zM8 6.4v3.2M8 11.5v.1',
  streams: 'M1.5 5c2.2-2 4.3-2 6.5 0s4.3 2 6.5 0M1.5 10.5c2.2-2 4.3-2 6.5 0s4.3 2 6.5 0',
  rules: 'M2.5 3.5h5M2.5 8h11M2.5 12.5h7M11 2v3',
  sql: 'M2.5 4c0-1 2.4-1.8 5.5-1.8S13.5 3 13.5 4v8c0 1-2.4 1.8-5.5 1.8S2.5 13 2.5 12zM2.5 4c0 1 2.4 1.8 5.5 1.8S13.5 5 13.5 4M2.5 8c0 1 2.4 1.8 5.5 1.8S13.5 9 13.5 8',
  run: 'M4.5 3v10l8-5z',
} as const;

export type IconName = keyof typeof paths;

export function Icon({ name, label }: { name: IconName; label?: string }): JSX.Element {
  return (
    <svg class="icon" viewBox="0 0 16 16" width="16" height="16" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round" role={label ? 'img' : undefined} aria-label={label} aria-hidden={label ? undefined : 'true'}>
      <path d={paths[name]} />
    </svg>
  );
}

export function Mark(): JSX.Element {
  return (
    <svg class="mark" viewBox="0 0 24 24" width="24" height="24" aria-hidden="true">
      <rect width="24" height="24" rx="5" />
      <g fill="none" stroke-linecap="round">
        <path d="M3.5 8.5c1.6-1.5 3.2-1.5 4.8 0s3.2 1.5 4.7.4" stroke-width="2" />
        <path d="M14 7.6v11.9" stroke-width="2.4" />
        <path d="M17.2 13.2v1.2M20 16.4v1.2" stroke-width="1.8" />
        <path d="M3.5 13.6h7.3M3.5 18.4h7.3" stroke-width="1.5" opacity=".55" />
      </g>
    </svg>
  );
}
