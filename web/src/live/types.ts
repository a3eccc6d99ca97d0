// What the dashboard sends: see the module batuta.dashboard.live_model.

export interface Observation {
  /** The state of each input and product, a letter each, in the order of the graph's levels. */
  s: string;
  /** When the last one changed, in seconds since 1970. */
  t: number;
}

export interface Run {
  product: string;
  obs_id: string;
  provider: string;
  state: string;
  attempt: number;
  done: number;
  total: number;
  started: number | null;
}

export interface Service {
  name: string;
  kind: "sdb" | "conductor" | "pipeline";
  state: "up" | "stopped";
  url: string | null;
  version: string | null;
  notice: string | null;
  queued: number;
  running: number;
  /** In seconds since 1970. */
  heard: number;
}

export interface Asked {
  /** When a service last answered, in seconds since 1970. */
  t: number | null;
  problem: string | null;
}

export interface Line {
  t: number;
  text: string;
  state: string;
}

export interface GraphProduct {
  m_input: string[];
  o_input: string[];
  provider: string;
  [key: string]: unknown;
}

export interface LiveGraph {
  number: number;
  levels: string[][];
  document: { inputs: string[]; products: Record<string, GraphProduct> };
  /** Column and row of each name. */
  places: Record<string, [number, number]>;
  /** Source, product, whether mandatory, and the places where it bends. */
  edges: [string, string, boolean, [number, number][]][];
}

export interface Summary {
  observations: number;
  processings: Record<string, number>;
  products: { product: string; available: number; processings: Record<string, number> }[];
  providers: { provider: string; processings: Record<string, number> }[];
  stale: number;
}

export type Changes = Record<string, unknown>;

export type WorkerMessage =
  | { kind: "snapshot"; values: Changes }
  | { kind: "frame"; changes: Changes }
  | { kind: "tick" }
  | { kind: "down"; refused: boolean };
