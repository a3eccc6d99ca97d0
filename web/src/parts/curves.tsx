// Curves of the last hours, in the colours of the page.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { theme } from "../settings";

export interface Curve {
  label: string;
  /** A variable of the style. */
  colour: string;
  values: (number | null)[];
  isFilled?: boolean;
}

interface Props {
  /** Seconds since 1970 of each value. */
  times: number[];
  curves: Curve[];
  /** A value as the axis has it. */
  format: (value: number) => string;
  /** What it shows, for who does not see it. */
  label: string;
  /** Between the marks of the axis. */
  steps: readonly number[];
  /** Which values they are: they are drawn again as it changes. */
  version: number;
}

export function Curves({ times, curves, format, label, steps, version }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const data: uPlot.AlignedData = [times, ...curves.map((each) => each.values)];
  const latest = useRef(data);
  latest.current = data;
  const names = curves.map((each) => each.label).join();
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const size = () => ({ width: element.clientWidth, height: element.clientHeight });
    const style = getComputedStyle(element);
    plot.current = new uPlot(
      { ...size(), ...options(style, curves, format, steps) },
      latest.current,
      element,
    );
    const observer = new ResizeObserver(() => plot.current?.setSize(size()));
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.current?.destroy();
    };
    // Made anew for other colours; of other values, only what is drawn changes.
  }, [theme.value, names]);
  useEffect(() => plot.current?.setData(latest.current), [version]);
  return <div class="curves" role="img" aria-label={label} ref={box} />;
}

function options(
  style: CSSStyleDeclaration,
  curves: Curve[],
  format: (value: number) => string,
  steps: readonly number[],
): Omit<uPlot.Options, "width" | "height"> {
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const em = Number.parseFloat(style.fontSize);
  const axis: uPlot.Axis = {
    font: `${0.85 * em}px ${style.fontFamily}`,
    stroke: colour("--quiet"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { stroke: colour("--line"), width: 1 },
  };
  return {
    legend: { show: false },
    cursor: { show: false },
    // The last time is to be read in full.
    padding: [null, 1.6 * em, null, null],
    // In UTC, as all times are.
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    scales: { y: { range: (_, __, most) => [0, Math.max(1, most)] } },
    axes: [
      {
        ...axis,
        size: 1.8 * em,
        space: 5 * em,
        // Whole minutes: its marks have no seconds.
        incrs: [60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800],
        values: (_, splits) =>
          splits.map((each) => new Date(each * 1000).toISOString().slice(11, 16)),
      },
      {
        ...axis,
        size: 4.6 * em,
        incrs: [...steps],
        space: 2 * em,
        values: (_, splits) => splits.map((each) => (each === null ? "" : format(each))),
      },
    ],
    series: [
      {},
      ...curves.map((each) => ({
        label: each.label,
        stroke: colour(each.colour),
        width: Math.max(1.5, em / 10),
        points: {
          show: true,
          size: em / 3,
          fill: colour(each.colour),
          filter: (plot: uPlot, series: number) => alone(plot.data[series] ?? []),
        },
        ...(each.isFilled ? { fill: `${colour(each.colour)}40` } : {}),
      })),
    ],
  };
}

const DECADES = [0.001, 0.01, 0.1, 1, 10, 100, 1000, 10_000, 100_000, 1_000_000];
export const ROUND_STEPS = DECADES.flatMap((each) => [each, 2 * each, 5 * each]);
/** Seconds that are round in the units of durations. */
export const DURATION_STEPS = [
  ...ROUND_STEPS.filter((each) => each < 15),
  ...[15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200],
  ...[1, 2, 5, 10, 20, 50, 100].map((days) => days * 86_400),
];

/** The places of values that no line leads to. */
function alone(values: ArrayLike<number | null | undefined>): number[] {
  const isThere = (place: number) => (values[place] ?? null) !== null;
  return [...Array(values.length).keys()].filter(
    (place) => isThere(place) && !isThere(place - 1) && !isThere(place + 1),
  );
}
