// The lineage of a version, both ways: what it was made from to the left, what was made from it
// to the right.
import { useState } from "preact/hooks";
import { inRem } from "../format";
import { type LineageGraph, versionKey } from "../lineage";
import type { StoredProduct } from "../records";
import { address, go } from "../router";
import { stateNamed } from "../states";
import { Mark } from "./mark";

const COLUMN = 240;
const ROW = 44;
const WIDTH = 190;
const HEIGHT = 28;

export function versionAddress(product: string, obsId: string, version: number): string {
  return `${address("products", product, obsId)}?version=${version}`;
}

export function LineageView({
  graph,
  root,
  stateOf,
}: {
  graph: LineageGraph;
  root: StoredProduct;
  stateOf: (stored: StoredProduct | undefined) => string;
}) {
  const [hovered, setHovered] = useState<string>();
  const chosen = versionKey(root.product, root.version);
  const lit = hovered ?? chosen;
  const places = new Map(graph.nodes.map((node) => [node.key, node]));
  const x = (column: number) => 8 + column * COLUMN;
  const y = (row: number) => 22 + row * ROW;
  const width = x(graph.columns - 1) + WIDTH + 8;
  const height = y(graph.rows - 1) + HEIGHT;
  return (
    <div class="scroll">
      <svg
        class="graph"
        style={{ width: inRem(width), height: inRem(height) }}
        viewBox={`0 0 ${width} ${height}`}
        role="group"
        aria-label="Lineage"
      >
        {graph.edges.map(([source, target]) => {
          const from = places.get(source);
          const to = places.get(target);
          if (!from || !to) return null;
          const [left, right] = [x(from.column) + WIDTH, x(to.column)];
          const middle = (left + right) / 2;
          const isLit = source === lit || target === lit;
          return (
            <path
              key={`${source} ${target}`}
              class={`edge${isLit ? " lit" : ""}`}
              d={`M${left} ${y(from.row)}C${middle} ${y(from.row)} ${middle} ${y(to.row)} ${right} ${y(to.row)}`}
            />
          );
        })}
        {graph.nodes.map((node) => {
          const name = stateOf(node.stored);
          const state = stateNamed(name);
          const text = `${node.product} v${node.version}`;
          const open = () => go(versionAddress(node.product, root.obs_id, node.version));
          return (
            <g
              key={node.key}
              class="node"
              transform={`translate(${x(node.column)} ${y(node.row) - HEIGHT / 2})`}
              role="link"
              tabIndex={0}
              aria-label={`${text}: ${name}`}
              aria-current={node.key === chosen ? "true" : undefined}
              style={{ cursor: "pointer" }}
              onMouseEnter={() => setHovered(node.key)}
              onMouseLeave={() => setHovered(undefined)}
              onFocus={() => setHovered(node.key)}
              onBlur={() => setHovered(undefined)}
              onClick={open}
              onKeyDown={(event) => event.key === "Enter" && open()}
            >
              <rect
                width={WIDTH}
                height={HEIGHT}
                rx={5}
                style={{
                  stroke: `var(${state.colour})`,
                  strokeWidth: node.key === chosen ? 3.5 : 1.5,
                }}
              />
              <g transform="translate(7 7)">
                <Mark state={state} />
              </g>
              <text x={27} y={HEIGHT / 2} dominant-baseline="central">
                {node.product.length > 15 ? `${node.product.slice(0, 14)}…` : node.product} v
                {node.version}
              </text>
              <title>{`${text}: ${name}`}</title>
            </g>
          );
        })}
      </svg>
    </div>
  );
}
