// What versions of an observation were made from, and what was made from them, placed for drawing.
import type { StoredProduct } from "./records";

export interface LineageNode {
  key: string;
  product: string;
  version: number;
  /** Undefined where the archive does not have that version. */
  stored: StoredProduct | undefined;
  column: number;
  row: number;
}

export interface LineageGraph {
  nodes: LineageNode[];
  /** From what was used to what was made from it. */
  edges: [string, string][];
  columns: number;
  rows: number;
}

export function versionKey(product: string, version: number): string {
  return `${product} ${version}`;
}

/** All that one version was made from, and all that was made from it, to the ends. */
export function lineageOf(root: StoredProduct, all: readonly StoredProduct[]): LineageGraph {
  const stored = new Map(all.map((each) => [versionKey(each.product, each.version), each]));
  const usedBy = new Map<string, string[]>();
  for (const [key, each] of stored) {
    for (const input of each.inputs) {
      const source = versionKey(input.product, input.version);
      usedBy.set(source, [...(usedBy.get(source) ?? []), key]);
    }
  }
  const inputsOf = (key: string) =>
    (stored.get(key)?.inputs ?? []).map((input) => versionKey(input.product, input.version));
  const first = versionKey(root.product, root.version);
  const seen = new Set<string>([
    ...reached(first, inputsOf),
    ...reached(first, (key) => usedBy.get(key) ?? []),
  ]);
  const edges: [string, string][] = [];
  for (const key of seen) {
    for (const source of inputsOf(key)) if (seen.has(source)) edges.push([source, key]);
  }
  return placed([...seen], edges, stored);
}

function reached(first: string, next: (key: string) => string[]): Set<string> {
  const seen = new Set([first]);
  for (const key of seen) for (const each of next(key)) seen.add(each);
  return seen;
}

/** Each to the right of all that it was made from, in the rows of what it was made from. */
function placed(
  keys: string[],
  edges: [string, string][],
  stored: Map<string, StoredProduct>,
): LineageGraph {
  const column = new Map(keys.map((key) => [key, 0]));
  // Lineages have no circle; the bound is for records that say otherwise.
  for (let turn = 0, isMoved = true; isMoved && turn < keys.length; turn += 1) {
    isMoved = false;
    for (const [source, target] of edges) {
      const wanted = (column.get(source) ?? 0) + 1;
      if (wanted > (column.get(target) ?? 0) && wanted < keys.length) {
        column.set(target, wanted);
        isMoved = true;
      }
    }
  }
  const columns = Math.max(...column.values()) + 1;
  const row = new Map<string, number>();
  let rows = 0;
  for (let each = 0; each < columns; each += 1) {
    const here = keys.filter((key) => column.get(key) === each);
    const wish = (key: string) => {
      const above = edges
        .filter(([, target]) => target === key)
        .map(([from]) => row.get(from) ?? 0);
      return above.length ? above.reduce((sum, place) => sum + place, 0) / above.length : 0;
    };
    here.sort((a, b) => wish(a) - wish(b) || a.localeCompare(b));
    here.forEach((key, rank) => {
      row.set(key, rank);
    });
    rows = Math.max(rows, here.length);
  }
  const nodes = keys.map((key) => {
    const [product = "", version = ""] = key.split(" ");
    return {
      key,
      product,
      version: Number(version),
      stored: stored.get(key),
      column: column.get(key) ?? 0,
      row: row.get(key) ?? 0,
    };
  });
  return { nodes, edges, columns, rows };
}
