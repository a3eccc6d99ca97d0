// The wall: no controls, readable from eight metres.

import { formatAge, formatCount, formatTime } from "../format";
import {
  graph,
  isStale,
  live,
  names,
  now,
  observations,
  runs,
  runsChanged,
  services,
  servicesChanged,
} from "../live/store";
import type { Asked, Line, Service, Summary } from "../live/types";
import { Mark } from "../parts/mark";
import { Matrix } from "../parts/matrix";
import { RecentRates } from "../parts/rates";
import { SmallTiles } from "../parts/tile_grid";
import { stateNamed } from "../states";

const UNSETTLED = /[RqrwthuF]/;
const LATE_HEARD_S = 25;

/** Observations in flight first, the newest first; then the others. */
function wallRows(): string[] {
  const all = [...observations.keys()].reverse();
  const inFlight = all.filter((name) => UNSETTLED.test(observations.get(name)?.s ?? ""));
  const rest = all.filter((name) => !UNSETTLED.test(observations.get(name)?.s ?? ""));
  return [...inFlight, ...rest].slice(0, 200);
}

export function Wall() {
  const summary = live<Summary>("summary").value;
  const late = live<{ total: number }>("late").value;
  const held = summary?.processings.held ?? 0;
  const failed = summary?.processings.failed ?? 0;
  const unapproved = summary?.processings.unapproved ?? 0;
  const lines = live<Line[]>("lines").value ?? [];
  const columns = names.value.map((name, place) => ({ name, place }));
  return (
    <main class={`wall${isStale.value ? " aged" : ""}`} aria-label="Wall">
      <h1 class="visually-hidden">Wall</h1>
      <div class="top">
        <span class="clock">
          {formatTime(now.value / 1000)}
          <small class="quiet" style={{ fontSize: ".35em" }}>
            {" "}
            UTC
          </small>
        </span>
        <Figure label="late" value={late?.total ?? 0} colour="--warning" isAlarm />
        <Figure label="failed" value={failed} colour="--failed" isAlarm />
        <Figure label="held" value={held} colour="--held" isAlarm />
        {unapproved > 0 && <Figure label="to approve" value={unapproved} colour="--held" isAlarm />}
        <Figure label="running" value={atWork(summary)} colour="--running" />
        <Figure label="observations" value={summary?.observations ?? 0} colour="--ink" />
      </div>
      <div class="side">
        <section class="card fills">
          <h2>Observations by products{graph.value ? `, graph ${graph.value.number}` : ""}</h2>
          {observations.size > 0 ? (
            <Matrix rows={wallRows} columns={columns} isFitted />
          ) : (
            <p class="empty">
              Nothing has arrived yet. Import a first file: batuta import --product P --obs-id O
              FILE
            </p>
          )}
        </section>
        <RecentRates />
      </div>
      <div class="side">
        <Services />
        <Computed />
        <section class="card fills">
          <h2>News</h2>
          {lines.length === 0 && (
            <p class="empty">Nothing has happened since the dashboard was started.</p>
          )}
          {lines
            .slice(-14)
            .reverse()
            .map((line) => (
              <div key={`${line.t} ${line.text}`} style={{ overflowWrap: "anywhere" }}>
                <span class="quiet mono">{formatTime(line.t)}</span> {line.text}
              </div>
            ))}
        </section>
      </div>
    </main>
  );
}

const MAX_COMPUTED = 4;

/** What is computed tile by tile, each with its tiles as they fill: those with most left first. */
function Computed() {
  runsChanged.value;
  const found = [...runs]
    .filter(([, run]) => run.state === "running" && run.total > 1 && run.done < run.total)
    .sort(([, one], [, other]) => other.total - other.done - (one.total - one.done))
    .slice(0, MAX_COMPUTED);
  if (found.length === 0) return null;
  return (
    <section class="card">
      <h2>Tiles</h2>
      {found.map(([id, run]) => (
        <div key={id} class="small-tiles">
          <div class="spread">
            <span>
              {run.obs_id} {run.product}
            </span>
            <span class="quiet">
              {formatCount(run.done)} of {formatCount(run.total)}
            </span>
          </div>
          <SmallTiles id={id} />
        </div>
      ))}
    </section>
  );
}

function atWork(summary: Summary | undefined): number {
  const counts = summary?.processings ?? {};
  return (counts.running ?? 0) + (counts.queued ?? 0) + (counts.requested ?? 0);
}

interface FigureProps {
  label: string;
  value: number;
  colour: string;
  /** Whether somebody is to do something about it: these come first, the largest at first. */
  isAlarm?: boolean;
}

function Figure({ label, value, colour, isAlarm = false }: FigureProps) {
  return (
    <span style={{ order: isAlarm && value > 0 ? -value : value > 0 ? 1 : 2 }}>
      <span class="big" style={{ color: value > 0 ? `var(${colour})` : "var(--quiet)" }}>
        {formatCount(value)}
      </span>{" "}
      {label}
    </span>
  );
}

export function Services() {
  servicesChanged.value;
  const seconds = now.value / 1000;
  const isUp = ({ state, heard }: Service) => state === "up" && seconds - heard <= LATE_HEARD_S;
  // Those that need somebody first: where there are many, the last may be out of sight.
  const found = [...services.values()].sort(
    (a, b) => Number(isUp(a)) - Number(isUp(b)) || a.name.localeCompare(b.name),
  );
  return (
    <section class="card">
      <h2>Services</h2>
      <table>
        <tbody>
          {["conductor", "sdb", "nats"].map((name) => (
            <AskedRow key={name} name={name} />
          ))}
          {found
            .filter((service) => service.kind === "pipeline")
            .map((service) => {
              const age = seconds - service.heard;
              const isOld = age > LATE_HEARD_S;
              return (
                <tr key={service.name} class={isOld ? "aged" : ""}>
                  <td>{service.name}</td>
                  <td>
                    <Sign isUp={isUp(service)} word={isOld ? "silent" : service.state} />
                  </td>
                  <td class="number">{workOf(service)}</td>
                  <td class="number quiet">{formatAge(age)}</td>
                </tr>
              );
            })}
        </tbody>
      </table>
    </section>
  );
}

function workOf({ running, queued }: { running: number; queued: number }): string {
  const told = [
    running > 0 && `${formatCount(running)} running`,
    queued > 0 && `${formatCount(queued)} queued`,
  ];
  return told.filter(Boolean).join(", ") || "idle";
}

function Sign({ isUp, word }: { isUp: boolean; word: string }) {
  return (
    <span class="state">
      <Mark state={stateNamed(isUp ? "available" : "failed")} />
      {word}
    </span>
  );
}

function AskedRow({ name }: { name: string }) {
  const asked = live<Asked>(`asked/${name}`).value;
  const age = asked?.t ? now.value / 1000 - asked.t : undefined;
  return (
    <tr>
      <td>{name}</td>
      <td>
        <Sign isUp={asked?.problem === null} word={asked?.problem === null ? "up" : "down"} />
      </td>
      <td class="number" title={asked?.problem ?? ""}>
        {asked?.problem ? asked.problem.slice(0, 80) : ""}
      </td>
      <td class="number quiet">{age === undefined ? "never" : formatAge(age)}</td>
    </tr>
  );
}
