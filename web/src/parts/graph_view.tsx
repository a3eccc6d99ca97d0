// The product graph, as it is laid out by the dashboard, coloured by what is given.
import { useState } from "preact/hooks";
import { inRem } from "../format";
import type { LiveGraph } from "../live/types";
import type { State } from "../states";
import { Mark } from "./mark";

const COLUMN = 210;
const ROW = 42;
const WIDTH = 156;
const HEIGHT = 28;

interface Props {
  graph: LiveGraph;
  /** The state of a name; undefined where it has none. */
  stateOf?: (name: string) => State | undefined;
  selected?: string | undefined;
  onSelect?: (name: string) => void;
}

export function GraphView({ graph, stateOf, selected, onSelect }: Props) {
  const [hovered, setHovered] = useState<string>();
  const lit = hovered ?? selected;
  const near = new Set<string>();
  if (lit !== undefined) {
    near.add(lit);
    for (const [source, product] of graph.edges) {
      if (source === lit) near.add(product);
      if (product === lit) near.add(source);
    }
  }
  const places = Object.entries(graph.places);
  const columns = Math.max(...places.map(([, place]) => place[0])) + 1;
  const bottom = Math.max(...places.map(([, place]) => place[1]));
  const top = Math.min(...places.map(([, place]) => place[1]));
  const x = (column: number) => 8 + column * COLUMN;
  const y = (row: number) => 20 + (row - top) * ROW;
  const width = x(columns - 1) + WIDTH + 8;
  const height = y(bottom) + HEIGHT;
  return (
    <div class="scroll">
      <svg
        class="graph"
        style={{ width: inRem(width), height: inRem(height) }}
        viewBox={`0 0 ${width} ${height}`}
        role="group"
        aria-label="Product graph"
      >
        {graph.edges.map(([source, product, isMandatory, bends]) => {
          const from = graph.places[source];
          const to = graph.places[product];
          if (!from || !to) return null;
          const points: [number, number][] = [
            [x(from[0]) + WIDTH, y(from[1])],
            ...bends.map(([column, row]): [number, number] => [x(column) + WIDTH / 2, y(row)]),
            [x(to[0]), y(to[1])],
          ];
          let line = `M${points[0]?.join(" ")}`;
          for (let rank = 1; rank < points.length; rank += 1) {
            const [a, b] = points[rank - 1] as [number, number];
            const [c, d] = points[rank] as [number, number];
            const middle = (a + c) / 2;
            line += `C${middle} ${b} ${middle} ${d} ${c} ${d}`;
          }
          const isLit = lit !== undefined && (source === lit || product === lit);
          const kind = `edge${isMandatory ? "" : " optional"}${isLit ? " lit" : lit ? " dim" : ""}`;
          return <path key={`${source} ${product}`} class={kind} d={line} />;
        })}
        {places.map(([name, [column, row]]) => {
          const state = stateOf?.(name);
          const isDim = lit !== undefined && !near.has(name);
          const isInput = graph.document.inputs.includes(name);
          const label = `${name}${state ? `: ${state.name}` : ""}${isInput ? ", input" : ""}`;
          return (
            <g
              key={name}
              class={`node${isDim ? " dim" : ""}`}
              transform={`translate(${x(column)} ${y(row) - HEIGHT / 2})`}
              role="button"
              tabIndex={0}
              aria-label={label}
              aria-pressed={name === selected}
              style={{ cursor: "pointer" }}
              onMouseEnter={() => setHovered(name)}
              onMouseLeave={() => setHovered(undefined)}
              onFocus={() => setHovered(name)}
              onBlur={() => setHovered(undefined)}
              onClick={() => onSelect?.(name)}
              onKeyDown={(event) => {
                if (event.key === "Enter" || event.key === " ") {
                  event.preventDefault();
                  onSelect?.(name);
                }
              }}
            >
              <rect
                width={WIDTH}
                height={HEIGHT}
                rx={isInput ? 14 : 5}
                style={{
                  ...(state && state.shape !== "none"
                    ? { stroke: `var(${state.colour})`, strokeWidth: 2 }
                    : {}),
                  ...(name === selected ? { strokeWidth: 3.5 } : {}),
                }}
              />
              {state && (
                <g transform="translate(7 7)">
                  <Mark state={state} />
                </g>
              )}
              <text x={state ? 27 : 10} y={HEIGHT / 2} dominant-baseline="central">
                {name.length > 16 ? `${name.slice(0, 15)}…` : name}
              </text>
              <title>{label}</title>
            </g>
          );
        })}
      </svg>
    </div>
  );
}
