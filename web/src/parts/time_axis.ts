// Times along an axis on which long stretches without anything under way are cut short.

export interface Cut {
  /** Where it is drawn, as a share of the axis. */
  at: number;
  seconds: number;
}

export interface TimeAxis {
  /** Where a time is, as a share of the axis. */
  place: (seconds: number) => number;
  cuts: Cut[];
}

/** The share of all that was under way which a cut takes. */
const CUT_SHARE = 0.1;

/** The axis of spans of time, in seconds since 1970; there is at least one. */
export function timeAxis(spans: [number, number][]): TimeAxis {
  const busy = merged(spans);
  const underWay = Math.max(
    1,
    busy.reduce((sum, [begin, end]) => sum + end - begin, 0),
  );
  const cut = CUT_SHARE * underWay;
  const isCut = (idle: number) => idle > underWay;
  const starts: number[] = [];
  let drawn = 0;
  for (const [rank, [begin, end]] of busy.entries()) {
    const idle = begin - (busy[rank - 1]?.[1] ?? begin);
    drawn += isCut(idle) ? cut : idle;
    starts.push(drawn);
    drawn += end - begin;
  }
  const whole = Math.max(drawn, 1);
  const place = (seconds: number) => {
    const rank = Math.max(
      0,
      busy.findLastIndex(([begin]) => begin <= seconds),
    );
    return ((starts[rank] ?? 0) + seconds - (busy[rank]?.[0] ?? seconds)) / whole;
  };
  const cuts = busy.slice(1).flatMap(([begin], rank) => {
    const idle = begin - (busy[rank]?.[1] ?? begin);
    const at = ((starts[rank + 1] ?? 0) - cut / 2) / whole;
    return isCut(idle) ? [{ at, seconds: idle }] : [];
  });
  return { place, cuts };
}

/** Spans of time in their order, those that overlap as one. */
function merged(spans: [number, number][]): [number, number][] {
  const found: [number, number][] = [];
  for (const [begin, end] of [...spans].sort(([one], [other]) => one - other)) {
    const last = found.at(-1);
    if (last && begin <= last[1]) last[1] = Math.max(last[1], end);
    else found.push([begin, Math.max(begin, end)]);
  }
  return found;
}
