// How many products were archived in each minute of the last hours, and how long that took.
import { conductor } from "../api";
import { formatCount, formatDuration, formatTime, secondsOf } from "../format";
import { now } from "../live/store";
import type { Rates } from "../records";
import { Curves, DURATION_STEPS, ROUND_STEPS } from "./curves";
import { Problem, useLoaded } from "./loaded";

const EVERY_MS = 10_000;
/** Older than this, it is of the past. */
const AGED_MS = 3 * EVERY_MS;
const MINUTES_NOW = 10;
/** Where nothing was archived earlier, no more than this is shown: a spike tells nothing. */
const LEAST_MINUTES = 15;
const WHOLE_STEPS = ROUND_STEPS.filter(Number.isInteger);

interface Heard extends Rates {
  heard: number;
}

async function ask(): Promise<Heard> {
  return { ...(await conductor<Rates>("/rates")), heard: Date.now() };
}

export function RecentRates() {
  const loaded = useLoaded<Heard>("rates", ask, EVERY_MS);
  const rates = loaded.value;
  if (rates === undefined) return <Problem text={loaded.problem} />;
  const isAged = now.value - rates.heard > AGED_MS;
  const first = firstShown(rates.archived);
  const begin = secondsOf(rates.begin);
  const times = rates.archived.slice(first).map((_, minute) => begin + 60 * (first + minute));
  const span = spanOf(times.length);
  const rate = rateNow(rates.archived);
  const last = rates.median_s.findLastIndex((each) => each !== null);
  const median = rates.median_s[last] ?? null;
  const p99 = rates.p99_s[last] ?? null;
  const isRecent = last > rates.median_s.length - 1 - MINUTES_NOW;
  return (
    <div class={`columns rates${isAged ? " aged" : ""}`}>
      <section class="card">
        <h2>
          Archived per minute: <b>{formatRate(rate)}</b>
          {isAged && ` (as of ${formatTime(secondsOf(rates.asked))} UTC)`}
        </h2>
        <Curves
          label={`Products archived per minute in the last ${span}: ${formatRate(rate)} on average in the last ${MINUTES_NOW} minutes, at most ${formatCount(Math.max(...rates.archived))}`}
          times={times}
          version={rates.heard}
          curves={[
            {
              label: "archived",
              colour: "--made",
              values: rates.archived.slice(first),
              isFilled: true,
            },
          ]}
          format={formatCount}
          steps={WHOLE_STEPS}
        />
      </section>
      <section class="card">
        <h2>
          From input to archive: <b style={{ color: "var(--running)" }}>{timeOf(median)}</b> median,{" "}
          <b style={{ color: "var(--warning)" }}>{timeOf(p99)}</b> 99 %
          {last >= 0 && !isRecent && ` (at ${formatTime(begin + 60 * last).slice(0, 5)} UTC)`}
        </h2>
        <Curves
          label={`Time from the first input to the archive in the last ${span}: the last median is ${timeOf(median)}, 99 % within ${timeOf(p99)}`}
          times={times}
          version={rates.heard}
          curves={[
            { label: "99 %", colour: "--warning", values: rates.p99_s.slice(first) },
            { label: "median", colour: "--running", values: rates.median_s.slice(first) },
          ]}
          format={(value) => (value === 0 ? "0" : formatDuration(value))}
          steps={DURATION_STEPS}
        />
      </section>
    </div>
  );
}

/** The mean of the last minutes, but of none before the first in which something was archived. */
function rateNow(archived: number[]): number {
  const begun = archived.findIndex((each) => each > 0);
  const from = Math.max(begun, archived.length - 1 - MINUTES_NOW);
  const ended = archived.slice(from, Math.max(from + 1, archived.length - 1));
  return ended.reduce((sum, each) => sum + each, 0) / Math.max(1, ended.length);
}

/** The minute before the first in which something was archived, or an earlier one. */
function firstShown(archived: number[]): number {
  const made = archived.findIndex((each) => each > 0);
  const latest = Math.max(0, archived.length - LEAST_MINUTES);
  return made < 0 ? latest : Math.min(latest, Math.max(0, made - 1));
}

function spanOf(minutes: number): string {
  return minutes < 90 ? `${minutes} minutes` : `${Math.round(minutes / 60)} hours`;
}

function timeOf(seconds: number | null): string {
  return seconds === null ? "none" : formatDuration(seconds);
}

function formatRate(rate: number): string {
  return rate >= 10 || rate === 0 ? formatCount(Math.round(rate)) : rate.toFixed(1);
}
