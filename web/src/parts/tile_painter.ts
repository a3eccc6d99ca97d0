// Draws a grid of tiles, in the geometry of its image, into the pixels of a canvas.
import { rankOf, TILE_STATES, type TileGrid, type Tiles } from "../live/tiles";

export type TileColour = "state" | "time" | "memory";

/** From little to much: dark to light, told apart by those who see no colours, too. */
const SCALE = [
  [68, 1, 84],
  [59, 82, 139],
  [33, 145, 140],
  [94, 201, 98],
  [253, 231, 37],
] as const;

/** Tiles from this size on have a line between them. */
const GAP_FROM = 5;

export interface Layout {
  width: number;
  height: number;
  /** First pixel of each column of tiles and the one after its last; null: tiles lie anywhere. */
  columns: Int32Array | null;
  rows: Int32Array;
  scale: number;
  top: number;
  left: number;
}

/** Where the tiles of a grid come to lie in a canvas of at most this size. */
export function layoutOf(grid: TileGrid, maxWidth: number, maxHeight: number): Layout {
  const { rows, cols, row_bounds, col_bounds } = grid.record;
  if (grid.windows !== null) return freeLayout(grid.windows, maxWidth, maxHeight);
  const rowBounds = row_bounds ?? even(rows);
  const colBounds = col_bounds ?? even(cols);
  const [top, bottom] = extent(rowBounds);
  const [left, right] = extent(colBounds);
  const largest = row_bounds === undefined ? 28 : Number.POSITIVE_INFINITY;
  const scale = Math.min(maxWidth / (right - left), maxHeight / (bottom - top), largest);
  const width = Math.max(1, Math.round((right - left) * scale));
  const height = Math.max(1, Math.round((bottom - top) * scale));
  return {
    width,
    height,
    columns: placed(colBounds, left, scale, width),
    rows: placed(rowBounds, top, scale, height),
    scale,
    top,
    left,
  };
}

function freeLayout(windows: Int32Array, maxWidth: number, maxHeight: number): Layout {
  let [top, bottom, left, right] = [Number.MAX_VALUE, -Number.MAX_VALUE, Number.MAX_VALUE, 0];
  right = -Number.MAX_VALUE;
  for (let at = 0; at < windows.length; at += 4) {
    top = Math.min(top, windows[at] ?? 0);
    bottom = Math.max(bottom, windows[at + 1] ?? 0);
    left = Math.min(left, windows[at + 2] ?? 0);
    right = Math.max(right, windows[at + 3] ?? 0);
  }
  const scale = Math.min(maxWidth / (right - left || 1), maxHeight / (bottom - top || 1));
  const width = Math.max(1, Math.round((right - left) * scale));
  const height = Math.max(1, Math.round((bottom - top) * scale));
  return { width, height, columns: null, rows: new Int32Array(), scale, top, left };
}

function even(count: number): number[] {
  return Array.from({ length: 2 * count }, (_, at) => (at + 1) >> 1);
}

function extent(bounds: number[]): [number, number] {
  let [first, last] = [Number.MAX_VALUE, -Number.MAX_VALUE];
  for (const bound of bounds) {
    if (bound < first) first = bound;
    if (bound > last) last = bound;
  }
  return last > first ? [first, last] : [first, first + 1];
}

/** Each tile has a pixel at least, and a gap after it where there is room. */
function placed(bounds: number[], origin: number, scale: number, size: number): Int32Array {
  const found = new Int32Array(bounds.length);
  for (let at = 0; at < bounds.length; at += 2) {
    const from = Math.min(size - 1, Math.floor(((bounds[at] ?? 0) - origin) * scale));
    const to = Math.max(from + 1, Math.floor(((bounds[at + 1] ?? 0) - origin) * scale));
    found[at] = from;
    found[at + 1] = Math.min(size, to - from >= GAP_FROM ? to - 1 : to);
  }
  return found;
}

export interface Palette {
  /** Of each state, as the pixels of a canvas have it. */
  states: Uint32Array;
  /** Of each code of time or memory. */
  codes: Uint32Array;
  low: number;
  high: number;
}

/** The colours of a grid: of its states, and of its codes between the lowest and the highest. */
export function paletteOf(
  tiles: Tiles,
  grid: TileGrid,
  colour: TileColour,
  colourOf: (name: string) => string,
): Palette {
  const states = Uint32Array.from(TILE_STATES, (state) => pixelOf(colourOf(state.colour)));
  states[0] = 0;
  const codes = new Uint32Array(256);
  const values = valuesOf(tiles, colour);
  let [low, high] = [256, 0];
  const end = grid.first + grid.record.rows * grid.record.cols;
  for (let tile = grid.first; tile < end; tile += 1) {
    const code = values?.[tile] ?? 0;
    if (code === 0) continue;
    if (code < low) low = code;
    if (code > high) high = code;
  }
  for (let code = low; code <= high; code += 1) {
    codes[code] = pixel(...scaled((code - low) / Math.max(1, high - low)));
  }
  return { states, codes, low, high };
}

function valuesOf(tiles: Tiles, colour: TileColour): Uint8Array | null {
  if (colour === "state") return null;
  return colour === "time" ? tiles.times : tiles.memories;
}

/** The colour of a share of the scale, from 0 to 1. */
export function scaled(share: number): [number, number, number] {
  const place = Math.min(0.9999, Math.max(0, share)) * (SCALE.length - 1);
  const before = SCALE[Math.floor(place)] ?? SCALE[0];
  const after = SCALE[Math.floor(place) + 1] ?? before;
  const part = place - Math.floor(place);
  const mixed = (at: 0 | 1 | 2) => Math.round(before[at] + (after[at] - before[at]) * part);
  return [mixed(0), mixed(1), mixed(2)];
}

function pixel(red: number, green: number, blue: number): number {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** A colour of the style sheet, six hexadecimal digits, as a pixel. */
function pixelOf(colour: string): number {
  const digits = Number.parseInt(colour.slice(1), 16) || 0;
  return pixel(digits >> 16, (digits >> 8) & 255, digits & 255);
}

/** Fill the pixels of a canvas. */
export function paintTiles(
  pixels: Uint32Array,
  tiles: Tiles,
  grid: TileGrid,
  layout: Layout,
  palette: Palette,
  colour: TileColour,
): void {
  pixels.fill(0);
  const values = valuesOf(tiles, colour);
  const colourAt = (tile: number) => {
    const state = tiles.stateOf(tile);
    const code = values?.[tile] ?? 0;
    return (code === 0 ? palette.states[state] : palette.codes[code]) ?? 0;
  };
  if (layout.columns === null) paintAnywhere(pixels, grid, layout, colourAt);
  else paintRows(pixels, tiles, grid, layout.columns, layout, colourAt);
}

/** One line of pixels for each row of tiles, copied as often as the row is high. */
function paintRows(
  pixels: Uint32Array,
  tiles: Tiles,
  grid: TileGrid,
  columns: Int32Array,
  layout: Layout,
  colourAt: (tile: number) => number,
): void {
  const { cols } = grid.record;
  const { width, rows } = layout;
  const ranks = new Uint8Array(width);
  let line = -1;
  for (let row = 0; 2 * row < rows.length; row += 1) {
    const from = rows[2 * row] ?? 0;
    const to = rows[2 * row + 1] ?? 0;
    if (from !== line) ranks.fill(0); // not where rows of tiles share a line of pixels
    line = from;
    const offset = from * width;
    for (let col = 0; col < cols; col += 1) {
      const tile = grid.first + row * cols + col;
      const rank = rankOf(tiles.states[tile] ?? 0);
      if (rank === 0) continue;
      const found = colourAt(tile);
      const end = columns[2 * col + 1] ?? 0;
      for (let x = columns[2 * col] ?? 0; x < end; x += 1) {
        if (rank > (ranks[x] ?? 0)) {
          ranks[x] = rank;
          pixels[offset + x] = found;
        }
      }
    }
    for (let y = from + 1; y < to; y += 1) pixels.copyWithin(y * width, offset, offset + width);
  }
}

function paintAnywhere(
  pixels: Uint32Array,
  grid: TileGrid,
  layout: Layout,
  colourAt: (tile: number) => number,
): void {
  const count = grid.record.rows * grid.record.cols;
  for (let place = 0; place < count; place += 1) {
    const [left, top, right, bottom] = boxOf(grid, layout, place);
    const found = colourAt(grid.first + place);
    for (let y = top; y < bottom && found !== 0; y += 1) {
      pixels.fill(found, y * layout.width + left, y * layout.width + right);
    }
  }
}

/** The pixels of a tile, by its place in its grid: left, top, and those after right and bottom. */
export function boxOf(
  grid: TileGrid,
  layout: Layout,
  place: number,
): [number, number, number, number] {
  const { cols } = grid.record;
  if (layout.columns !== null) {
    const row = 2 * Math.floor(place / cols);
    const col = 2 * (place % cols);
    return [
      layout.columns[col] ?? 0,
      layout.rows[row] ?? 0,
      layout.columns[col + 1] ?? 0,
      layout.rows[row + 1] ?? 0,
    ];
  }
  const at = (which: number, origin: number, size: number) =>
    Math.min(size, Math.floor(((grid.windows?.[4 * place + which] ?? 0) - origin) * layout.scale));
  const left = at(2, layout.left, layout.width - 1);
  const top = at(0, layout.top, layout.height - 1);
  return [
    left,
    top,
    Math.max(left + 1, at(3, layout.left, layout.width) - 1),
    Math.max(top + 1, at(1, layout.top, layout.height) - 1),
  ];
}

/** The place of the tile under a pixel; undefined beside all. */
export function tileAt(grid: TileGrid, layout: Layout, x: number, y: number): number | undefined {
  const { rows, cols } = grid.record;
  if (layout.columns !== null) {
    const row = lastBefore(layout.rows, y);
    const col = lastBefore(layout.columns, x);
    return row < 0 || col < 0 || row >= rows || col >= cols ? undefined : row * cols + col;
  }
  // The last one drawn lies on top.
  for (let place = rows * cols - 1; place >= 0; place -= 1) {
    const [left, top, right, bottom] = boxOf(grid, layout, place);
    if (x >= left && x < right && y >= top && y < bottom) return place;
  }
  return undefined;
}

function lastBefore(bounds: Int32Array, pixel: number): number {
  let [low, high] = [0, bounds.length >> 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((bounds[2 * middle] ?? 0) <= pixel) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
