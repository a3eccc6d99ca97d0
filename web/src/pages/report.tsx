// What happened in a night, or another span of time: to be read, printed and handed over.
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { conductor, withQuery } from "../api";
import { formatCount, formatDuration, plural } from "../format";
import { asTime, given, TimeFilter } from "../parts/filters";
import { Show, useLoaded } from "../parts/loaded";
import { Time } from "../parts/time";
import type { ProductReport, Report, Spread } from "../records";
import { query, setQuery } from "../router";

const HOUR_S = 3600;
const DEFAULT_S = 12 * HOUR_S;
const NIGHT_BEGINS_H = 18;
const NIGHT_S = 12 * HOUR_S;

/** A time as the fields and the address have it: UTC, to the minute. */
function minuteOf(seconds: number): string {
  return new Date(seconds * 1000).toISOString().slice(0, 16);
}

function select(begin: number, end: number): void {
  setQuery({ from: minuteOf(begin), to: minuteOf(end) });
}

/** The next minute: what has just happened is to be in a report that ends now. */
function nextMinute(): number {
  return Math.ceil(Date.now() / 60_000) * 60;
}

function selectLast(seconds: number): void {
  const end = nextMinute();
  select(end - seconds, end);
}

/** Select the night that has begun last, in UTC. */
function selectNight(): void {
  const now = Date.now() / 1000;
  const today = Math.floor(now / 86_400) * 86_400 + NIGHT_BEGINS_H * HOUR_S;
  const begin = today <= now ? today : today - 86_400;
  select(begin, begin + NIGHT_S);
}

const PRESETS: readonly [string, () => void][] = [
  ["Last 8 h", () => selectLast(8 * HOUR_S)],
  ["Last night", selectNight],
  ["Last 24 h", () => selectLast(24 * HOUR_S)],
  ["A week", () => selectLast(7 * 24 * HOUR_S)],
];

export function ReportPage() {
  const isGiven = query.value.has("from") && query.value.has("to");
  // The address says which span it is: it is the same one after a reload, and on another desk.
  useEffect(() => {
    if (!isGiven) selectLast(DEFAULT_S);
  }, [isGiven]);
  return (
    <div class="page stack report">
      <h1>Report</h1>
      {isGiven && <Spanned />}
    </div>
  );
}

function Spanned() {
  const path = withQuery("/report", { from: asTime(given("from")), to: asTime(given("to")) });
  const loaded = useLoaded<Report>(path, () => conductor<Report>(path));
  return (
    <>
      <div class="row noprint">
        <TimeFilter name="from" label="From" />
        <TimeFilter name="to" label="Until" />
        {PRESETS.map(([label, choose]) => (
          <button key={label} type="button" onClick={choose}>
            {label}
          </button>
        ))}
        <button type="button" onClick={() => print()}>
          Print
        </button>
        <a href={`/api/conductor${path}`} download={`report-${given("from")}-${given("to")}.json`}>
          Download JSON
        </a>
      </div>
      <Show loaded={loaded}>{(report) => <Contents report={report} />}</Show>
    </>
  );
}

function Contents({ report }: { report: Report }) {
  return (
    <>
      <p>
        From <Time at={report.from} /> to <Time at={report.to} /> UTC. As recorded at{" "}
        <Time at={report.asked} />.
      </p>
      {report.dropped > 0 && (
        <p class="problem">
          Records of {plural(report.dropped, "observation")} heard of since then were dropped by the
          rules of retention: what was made of them is not counted.
        </p>
      )}
      <Total total={report.total} />
      {report.products.length > 0 ? (
        <Products products={report.products} total={report.total} />
      ) : (
        <p class="empty">Nothing was made, failed, late or waiting in this time.</p>
      )}
      <Lists report={report} />
    </>
  );
}

const FIGURES: readonly (keyof ProductReport)[] = ["made", "failed", "late", "waiting", "held"];

function Total({ total }: { total: ProductReport }) {
  return (
    <div class="figures">
      {FIGURES.map((name) => (
        <span key={name} class="figure">
          <b>{formatCount(total[name] as number)}</b> {name}
        </span>
      ))}
      {total.latency && (
        <span class="figure">
          <b>{formatDuration(total.latency.median_s)}</b> from input to archive, 95 % within{" "}
          {formatDuration(total.latency.p95_s)}
        </span>
      )}
    </div>
  );
}

/** What is counted: its name in the answer, and those of it that are still so. */
const COUNTED: readonly [keyof ProductReport, (keyof ProductReport)?][] = [
  ["made"],
  ["failed", "still_failed"],
  ["retried"],
  ["cancelled"],
  ["late", "still_late"],
  ["expired"],
  ["approved"],
  ["refused"],
  ["waiting"],
  ["held"],
];

function Products({ products, total }: { products: ProductReport[]; total: ProductReport }) {
  const counted = COUNTED.filter(([name]) => name === "made" || (total[name] as number) > 0);
  const row = (each: ProductReport) => (
    <>
      {counted.map(([name, still]) => (
        <td key={name} class="number">
          {countOf(each, name, still)}
        </td>
      ))}
      <td class="number">{spreadOf(each.latency)}</td>
      <td class="number">{spreadOf(each.processing)}</td>
    </>
  );
  return (
    <section>
      <h2>Products</h2>
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <th>Product</th>
              {counted.map(([name]) => (
                <th key={name} class="number">
                  {capital(name)}
                </th>
              ))}
              <th class="number" title="Median, and what 95 % do not exceed">
                Input to archive
                <div class="quiet">median / 95 %</div>
              </th>
              <th class="number" title="Median, and what 95 % do not exceed">
                Processing
                <div class="quiet">median / 95 %</div>
              </th>
            </tr>
          </thead>
          <tbody>
            {products.map((each) => (
              <tr key={`${each.provider} ${each.product}`}>
                <td>
                  {each.product}
                  <div class="quiet">{each.provider || "not in the graph"}</div>
                </td>
                {row(each)}
              </tr>
            ))}
          </tbody>
          <tfoot>
            <tr>
              <th>All</th>
              {row(total)}
            </tr>
          </tfoot>
        </table>
      </div>
    </section>
  );
}

function countOf(each: ProductReport, name: keyof ProductReport, still?: keyof ProductReport) {
  const number = each[name] as number;
  const left = still ? (each[still] as number) : 0;
  if (number === 0) return "";
  return left > 0 ? `${formatCount(number)} (${formatCount(left)} still)` : formatCount(number);
}

function spreadOf(spread: Spread | null): string {
  if (spread === null) return "";
  return `${formatDuration(spread.median_s)} / ${formatDuration(spread.p95_s)}`;
}

function capital(text: string): string {
  return text[0]?.toUpperCase() + text.slice(1);
}

function Lists({ report }: { report: Report }) {
  const dead =
    report.dead_letters === null
      ? "NATS did not tell how many dead letters there were."
      : `${plural(report.dead_letters, "dead letter")}.`;
  return (
    <>
      <Part title="Approved and refused" listed={report.answers}>
        {(each) => (
          <>
            <Time at={each.time} /> {each.verdict} {each.product} of {each.obs_id} by {who(each.by)}
            {because(each.reason)}
          </>
        )}
      </Part>
      <Part title="Campaigns" listed={report.campaigns}>
        {(each) => (
          <>
            <Time at={each.started} />{" "}
            <a href={`/campaigns/${each.number}`}>
              campaign {each.number}
              {each.name && ` (${each.name})`}
            </a>{" "}
            started: {each.state}, {formatCount(each.made)} of {formatCount(each.total)} made
            {each.failed > 0 && `, ${formatCount(each.failed)} failed`}
            {each.ended && (
              <>
                , ended <Time at={each.ended} />
              </>
            )}
          </>
        )}
      </Part>
      <Part title="Providers left alone" listed={report.circuits}>
        {(each) => (
          <>
            <Time at={each.time} /> {each.provider} at {each.instance}{" "}
            {each.lost ? "was taken for lost" : "was left alone"}
            {each.still && ", and still is"}
            {because(each.reason)}
          </>
        )}
      </Part>
      <Part title="Holds" listed={report.holds}>
        {(each) => (
          <>
            <Time at={each.placed} /> {each.what} held by {who(each.by)}
            {because(each.reason)};{" "}
            {each.released ? (
              <>
                released <Time at={each.released} /> by {who(each.released_by ?? "")}
                {because(each.release_reason)}
              </>
            ) : (
              "still in force"
            )}
          </>
        )}
      </Part>
      <p class="quiet">{dead}</p>
    </>
  );
}

function Part<T>({
  title,
  listed,
  children,
}: {
  title: string;
  listed: { total: number; items: T[] };
  children: (each: T) => ComponentChildren;
}) {
  if (listed.total === 0) return null;
  const left = listed.total - listed.items.length;
  return (
    <section>
      <h2>{title}</h2>
      <ul class="brief">
        {listed.items.map((each, place) => (
          <li key={place}>{children(each)}</li>
        ))}
        {left > 0 && <li>{formatCount(left)} more</li>}
      </ul>
    </section>
  );
}

function who(label: string): string {
  return label.replace(/^operator /, "");
}

function because(reason: string | null): string {
  return reason ? `: ${reason}` : "";
}
