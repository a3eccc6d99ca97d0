// Times: in UTC, with the local one on hover.
import { formatAge, formatTime, secondsOf } from "../format";
import { now } from "../live/store";

export function Time({ at, withDate = true }: { at: string | number | null; withDate?: boolean }) {
  if (at === null) return <span class="quiet">-</span>;
  const seconds = typeof at === "number" ? at : secondsOf(at);
  return (
    <time
      dateTime={new Date(seconds * 1000).toISOString()}
      title={`${new Date(seconds * 1000).toLocaleString()} local time`}
    >
      {formatTime(seconds, withDate)}
    </time>
  );
}

export function Ago({ at }: { at: number }) {
  return <span title={`${formatTime(at, true)} UTC`}>{formatAge(now.value / 1000 - at)} ago</span>;
}
