// The tiles of a processing, as its pipeline tells them: see docs/reference/tiles.md.

export interface TileGridRecord {
  dataset: string;
  rows: number;
  cols: number;
  row_bounds?: number[];
  col_bounds?: number[];
  windows?: string;
}

export interface TilesReport {
  attempt: number;
  seq: number;
  full: boolean;
  ended: boolean;
  grids?: TileGridRecord[];
  first_worker: number;
  workers: string[];
  states?: string;
  times?: string;
  memories?: string;
  tile_workers?: string;
  changes?: string;
}

/** The states of a tile, in the order of their codes. */
export const TILE_STATES = [
  { name: "none", colour: "--paper", mark: "." },
  { name: "waiting", colour: "--grid", mark: "" },
  { name: "running", colour: "--running", mark: "R" },
  { name: "to be tried again", colour: "--warning", mark: "t" },
  { name: "done", colour: "--made", mark: "" },
  { name: "done, empty", colour: "--empty", mark: "" },
  { name: "kept by resume", colour: "--held", mark: "" },
  { name: "failed", colour: "--failed", mark: "F" },
] as const;
export const RUNNING = 2;
const AGAIN = 0x40;
const CODE = 0x3f;
const CHANGE_BYTES = 9;

/** Which state is shown where several tiles share a pixel: what needs a look comes first. */
const RANKS = Uint8Array.of(0, 1, 5, 6, 3, 3, 2, 7);

export function rankOf(state: number): number {
  return RANKS[state & CODE] ?? 0;
}

export interface TileGrid {
  record: TileGridRecord;
  /** The number of its first tile. */
  first: number;
  /** Pixels of the image: first row, end of rows, first column, end of columns, of each tile. */
  windows: Int32Array | null;
}

function decoded(text: string | undefined): Uint8Array<ArrayBuffer> {
  const binary = atob(text ?? "");
  const bytes = new Uint8Array(binary.length);
  for (let place = 0; place < bytes.length; place += 1) bytes[place] = binary.charCodeAt(place);
  return bytes;
}

/** All that is known of the tiles of one processing. */
export class Tiles {
  seq: number | undefined;
  attempt = 0;
  ended = false;
  grids: TileGrid[] = [];
  states = new Uint8Array();
  times = new Uint8Array();
  memories = new Uint8Array();
  workers = new Uint16Array();
  names: string[] = [];
  /** Counts what was read, for those that draw. */
  changes = 0;

  read(report: TilesReport): void {
    this.changes += 1;
    this.seq = report.seq;
    this.attempt = report.attempt;
    this.ended = report.ended;
    if (report.full) this.readAll(report);
    this.names.length = report.first_worker - 1;
    this.names.push(...report.workers);
    const changes = decoded(report.changes);
    const view = new DataView(changes.buffer);
    for (let at = 0; at + CHANGE_BYTES <= changes.length; at += CHANGE_BYTES) {
      const tile = view.getUint32(at, true);
      this.workers[tile] = view.getUint16(at + 4, true);
      this.states[tile] = view.getUint8(at + 6);
      this.times[tile] = view.getUint8(at + 7);
      this.memories[tile] = view.getUint8(at + 8);
    }
  }

  private readAll(report: TilesReport): void {
    this.states = decoded(report.states);
    this.times = decoded(report.times);
    this.memories = decoded(report.memories);
    const workers = decoded(report.tile_workers);
    const view = new DataView(workers.buffer);
    this.workers = Uint16Array.from({ length: workers.length >> 1 }, (_, tile) =>
      view.getUint16(2 * tile, true),
    );
    let first = 0;
    this.grids = (report.grids ?? []).map((record) => {
      const grid = { record, first, windows: windowsOf(record) };
      first += record.rows * record.cols;
      return grid;
    });
  }

  stateOf(tile: number): number {
    return (this.states[tile] ?? 0) & CODE;
  }

  /** How many tiles of a grid are in each state. */
  counts(grid: TileGrid): number[] {
    const counts = TILE_STATES.map(() => 0);
    const end = grid.first + grid.record.rows * grid.record.cols;
    for (let tile = grid.first; tile < end; tile += 1) {
      const state = this.stateOf(tile);
      counts[state] = (counts[state] ?? 0) + 1;
    }
    return counts;
  }

  /** What there is to say of a tile, in a line. */
  describe(grid: TileGrid, row: number, col: number): string {
    const tile = grid.first + row * grid.record.cols + col;
    const state = this.stateOf(tile);
    const was = this.ended && state === RUNNING;
    const parts = [was ? "running when it ended" : (TILE_STATES[state]?.name ?? "")];
    if ((this.states[tile] ?? 0) & AGAIN && state !== 3) parts.push("at the second try");
    const worker = this.names[(this.workers[tile] ?? 0) - 1];
    if (worker) parts.push(worker);
    const seconds = secondsOfCode(this.times[tile] ?? 0);
    if (seconds !== undefined) parts.push(formatSeconds(seconds));
    const megabytes = megabytesOfCode(this.memories[tile] ?? 0);
    if (megabytes !== undefined) parts.push(formatMegabytes(megabytes));
    return `row ${row}, column ${col}: ${parts.join(", ")}`;
  }
}

function windowsOf(record: TileGridRecord): Int32Array | null {
  if (record.windows === undefined) return null;
  const view = new DataView(decoded(record.windows).buffer);
  return Int32Array.from({ length: view.byteLength >> 2 }, (_, at) => view.getInt32(4 * at, true));
}

export function secondsOfCode(code: number): number | undefined {
  return code === 0 ? undefined : 0.001 * 2 ** ((code - 1) / 8);
}

export function megabytesOfCode(code: number): number | undefined {
  return code === 0 ? undefined : (2 ** 20 * 2 ** ((code - 1) / 8)) / 1e6;
}

export function formatSeconds(seconds: number): string {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 120) return `${seconds.toPrecision(2)} s`;
  return `${Math.round(seconds / 60)} min`;
}

export function formatMegabytes(megabytes: number): string {
  if (megabytes < 999.5) return `${Math.round(megabytes)} MB`;
  return `${(megabytes / 1000).toPrecision(2)} GB`;
}
