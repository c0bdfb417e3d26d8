// A rate over the last five minutes.
import { effect } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { samples, seriesOf, spanSeconds, spanSecondsMin } from '../model/rates.js';
import { short } from '../model/format.js';
import { theme } from '../model/theme.js';

export interface Readout {
  /** seconds since the epoch */
  at: number;
  value: number;
}

interface Props {
  series: string;
  /** for who cannot see it */
  label: string;
  /** "accent" or another custom property without its dashes */
  colour: string;
  axes: boolean;
  /** the least that the upper edge stands for */
  floor?: number;
  onRead?: (readout: Readout | null) => void;
}

const style = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** The smallest pleasant number at or above n. */
export function ceiling(n: number): number {
  if (!(n > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(n));
  return ([1, 2, 4, 6, 8, 10].find((m) => m * power >= n) ?? 10) * power;
}

const clock = (seconds: number, step: number): string => new Date(seconds * 1000).toISOString().slice(11, step < 60 ? 19 : 16);

/** Labels of the time axis, but none so far left that it meets the other axis. */
function timeLabels(u: uPlot, at: number[]): string[] {
  const step = (at[1] ?? Infinity) - (at[0] ?? 0);
  const room = step < 60 ? 24 : 16;
  const width = u.bbox.width / devicePixelRatio;
  return at.map((s) => {
    const x = u.valToPos(s, 'x');
    return x < room || x > width - room ? '' : clock(s, step);
  });
}

/** From one minute, growing to five with what has been watched. */
function timeRange(times: ArrayLike<number>): [number, number] {
  const end = times[times.length - 1] ?? Date.now() / 1000;
  const watched = end - (times[0] ?? end);
  return [end - Math.min(spanSeconds, Math.max(spanSecondsMin, watched)), end];
}

function options(p: Props, width: number, height: number, read: (r: Readout | null) => void): uPlot.Options {
  const font = '10px "Plex Sans", system-ui, sans-serif';
  const axis = { stroke: () => style('ink-3'), font, ticks: { show: false } };
  return {
    width,
    height,
    legend: { show: false },
    padding: p.axes ? [6, 2, 0, 0] : [3, 0, 1, 0],
    cursor: { sync: { key: 'rates' }, drag: { x: false, y: false }, y: false, points: { size: 5 } },
    scales: {
      x: { time: true, range: (u) => timeRange(u.data[0]) },
      y: { range: (_u, _min, max) => [0, Math.max(p.floor ?? 0, ceiling(max * 1.04))] },
    },
    axes: [
      { ...axis, show: p.axes, size: 18, gap: 3, space: 64, grid: { show: false }, values: timeLabels, incrs: [15, 30, 60, 120] },
      { ...axis, show: p.axes, size: 36, gap: 4, splits: (_u, _i, _min, max) => [0, max / 2, max], values: (_u, at) => at.map((v) => (v === null ? '' : short(v))), grid: { stroke: () => style('line-soft'), width: 1 } },
    ],
    series: [{}, { stroke: () => style(p.colour), width: 1.5, fill: () => style(`${p.colour}-wash`), points: { show: false }, spanGaps: false }],
    hooks: {
      setCursor: [(u) => {
        const i = u.cursor.idx;
        const at = i == null ? undefined : u.data[0][i];
        const value = i == null ? undefined : u.data[1]?.[i];
        read(u.cursor.left !== undefined && u.cursor.left >= 0 && at !== undefined && value != null ? { at, value } : null);
      }],
    },
  };
}

export function RateChart(props: Props): JSX.Element {
  const place = useRef<HTMLDivElement>(null);
  const read = useRef(props.onRead);
  read.current = props.onRead;
  const { series, colour, axes } = props;
  useEffect(() => {
    const node = place.current;
    if (!node) return undefined;
    const plot = new uPlot(options(props, node.clientWidth || 200, node.clientHeight || 60, (r) => read.current?.(r)), [[], []], node);
    const sizes = new ResizeObserver(() => {
      if (node.clientWidth > 0) plot.setSize({ width: node.clientWidth, height: node.clientHeight });
    });
    sizes.observe(node);
    const stop = effect(() => {
      void samples.value;
      void theme.value;
      if (!document.hidden) plot.setData(seriesOf(series));
    });
    return () => {
      stop();
      sizes.disconnect();
      plot.destroy();
    };
  }, [series, colour, axes]);
  return <div class="chart" ref={place} role="img" aria-label={props.label} />;
}
