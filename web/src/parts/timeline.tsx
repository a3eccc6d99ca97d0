// The processings of an observation along time: waited (thin), asked for, computed (thick).
import { formatDuration, formatTime, inRem, secondsOf } from "../format";
import { now } from "../live/store";
import type { Processing } from "../records";
import { hasEnded } from "../records";
import { address } from "../router";
import { stateNamed } from "../states";
import { timeAxis } from "./time_axis";

const NAME_WIDTH = 190;
const ROW = 22;
const DAY_S = 86_400;

export function Timeline({ processings }: { processings: Processing[] }) {
  if (processings.length === 0) return <p class="empty">Nothing was asked for yet.</p>;
  const begin = Math.min(...processings.map((each) => secondsOf(each.created)));
  const present = now.value / 1000;
  const endOf = (each: Processing) =>
    each.ended ? secondsOf(each.ended) : hasEnded(each) ? secondsOf(each.created) : present;
  const end = Math.max(...processings.map(endOf), begin + 1);
  const isOfDays = end - begin > DAY_S;
  const width = 640;
  const axis = timeAxis(processings.map((each) => [secondsOf(each.created), endOf(each)]));
  const along = (share: number) => NAME_WIDTH + share * (width - NAME_WIDTH - 60);
  const x = (seconds: number) => along(axis.place(seconds));
  const ordered = [...processings].sort((a, b) => secondsOf(a.created) - secondsOf(b.created));
  // What cuts say is on a line of its own: it may be where the times of both ends are.
  const height = ordered.length * ROW + (axis.cuts.length > 0 ? 42 : 26);
  return (
    <div class="scroll">
      <svg
        class="graph"
        style={{ width: inRem(width), height: inRem(height) }}
        viewBox={`0 0 ${width} ${height}`}
        role="group"
        aria-label="Timeline of processings"
      >
        {axis.cuts.map(({ at, seconds }) => (
          <g key={at}>
            <title>{`Nothing was under way for ${formatDuration(seconds)}: not drawn to scale`}</title>
            <line
              x1={along(at)}
              x2={along(at)}
              y1={2}
              y2={height - 34}
              stroke="var(--quiet)"
              stroke-dasharray="2 4"
            />
            <text x={along(at)} y={height - 20} text-anchor="middle">
              {`+${formatDuration(seconds)}`}
            </text>
          </g>
        ))}
        {ordered.map((each, rank) => {
          const y = 10 + rank * ROW;
          const colour = `var(${stateNamed(each.state).colour})`;
          const started = each.started ? secondsOf(each.started) : undefined;
          const last = endOf(each);
          return (
            <a key={each.id} href={address("processings", each.id)}>
              <text x="0" y={y + 4}>
                {`${each.product} ${each.attempt > 1 ? `(attempt ${each.attempt})` : ""}`.slice(
                  0,
                  26,
                )}
              </text>
              <line
                x1={x(secondsOf(each.created))}
                x2={x(started ?? last)}
                y1={y}
                y2={y}
                stroke="var(--grid)"
                stroke-width="3"
              />
              {started !== undefined && (
                <rect
                  x={x(started)}
                  y={y - 6}
                  width={Math.max(2, x(last) - x(started))}
                  height="12"
                  rx="2"
                  fill={colour}
                />
              )}
              {started !== undefined && (
                <text x={x(last) + 5} y={y + 4}>
                  {formatDuration(Math.max(0, last - started))}
                </text>
              )}
              <title>
                {`${each.product}: ${each.state}, waited ${formatDuration(Math.max(0, (started ?? last) - secondsOf(each.created)))}`}
              </title>
            </a>
          );
        })}
        <text x={NAME_WIDTH} y={height - 4}>
          {formatTime(begin, isOfDays)}
        </text>
        <text x={width - (isOfDays ? 0 : 62)} y={height - 4} text-anchor="end">
          {formatTime(end, isOfDays)}
        </text>
      </svg>
    </div>
  );
}
