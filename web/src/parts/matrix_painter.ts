// What a matrix of observations by products looks like, on a canvas.
import { TEXT_PX } from "../format";
import { observations, runs } from "../live/store";
import { drawMark, STATES } from "../states";

export interface MatrixColumn {
  name: string;
  /** Its place among the letters of an observation. */
  place: number;
}

/** What stands over the rows of a group. */
export interface Heading {
  /** The name of the group. */
  group: string;
  title: string;
}

/** An observation by its name, or the heading of those that follow. */
export type MatrixRow = string | Heading;

/** The cell that the arrows have led to, by the places of its row and its column. */
export interface Cursor {
  row: number;
  column: number;
}

const MAX_NAME = 20;
/** How names of columns are turned, radians. */
const TURN = -1.15;

/** Beside text of the usual size. */
export const CELL = 20;
/** But on a screen of many pixels, which is looked at from further away. */
const MAX_CELL = 44;

/** Where things are, px. */
export interface Geometry {
  cell: number;
  header: number;
  names: number;
  /** How far the name of the last column leans beyond it. */
  lean: number;
}

const FONT = '"DejaVu Sans Mono", ui-monospace, Menlo, monospace';

/** Outline the cell that the arrows have led to, unless it has been scrolled away. */
export function outline(
  context: CanvasRenderingContext2D,
  box: HTMLElement,
  { row, column }: Cursor,
  { cell, header, names }: Geometry,
): void {
  const x = names + column * cell - box.scrollLeft;
  const y = header + row * cell - box.scrollTop;
  if (x < names || y < header) return;
  const style = getComputedStyle(document.documentElement);
  context.strokeStyle = style.getPropertyValue("--focus").trim();
  context.lineWidth = 2;
  context.strokeRect(x + 1, y + 1, cell - 2, cell - 2);
}

function fontOf(cell: number): number {
  return Math.max(12, Math.round(cell * 0.5));
}

function shortened(name: string): string {
  return name.length > MAX_NAME ? `${name.slice(0, MAX_NAME - 1)}…` : name;
}

/** Lay the matrix out in the box that there is. */
export function measured(
  box: HTMLElement,
  rows: MatrixRow[],
  columns: MatrixColumn[],
  isFitted: boolean,
): Geometry {
  const longest = rows.reduce(
    (most, row) => Math.max(most, typeof row === "string" ? row.length : 0),
    8,
  );
  const namesOf = (cell: number) => Math.min(longest, 34) * fontOf(cell) * 0.61 + 16;
  const last = Math.min(MAX_NAME, columns.at(-1)?.name.length ?? 0);
  // From the middle of its column on.
  const leanOf = (cell: number) =>
    Math.max(8, (last + 1) * fontOf(cell) * 0.61 * Math.cos(TURN) - cell / 2);
  const text = Number.parseFloat(getComputedStyle(document.documentElement).fontSize);
  let cell = Math.round((CELL * text) / TEXT_PX);
  if (isFitted && columns.length > 0) {
    const fits = (size: number) =>
      namesOf(size) + columns.length * size + leanOf(size) < box.clientWidth - 12;
    const most = MAX_CELL * Math.max(1, innerWidth / 2200);
    while (cell < most && fits(cell + 1)) cell += 1;
  }
  const widest = columns.reduce((most, each) => Math.max(most, each.name.length), 4);
  const slanted = Math.min(MAX_NAME, widest) * fontOf(cell) * 0.61 * Math.sin(-TURN);
  return {
    cell,
    header: Math.ceil(slanted) + 18,
    names: Math.ceil(namesOf(cell)),
    lean: Math.ceil(leanOf(cell)),
  };
}

export function paint(
  context: CanvasRenderingContext2D,
  surface: HTMLCanvasElement,
  box: HTMLElement,
  rows: MatrixRow[],
  columns: MatrixColumn[],
  { cell, header, names }: Geometry,
): void {
  const ratio = devicePixelRatio || 1;
  const fontSize = fontOf(cell);
  const width = box.clientWidth;
  const height = box.clientHeight;
  if (
    surface.width !== Math.round(width * ratio) ||
    surface.height !== Math.round(height * ratio)
  ) {
    surface.width = Math.round(width * ratio);
    surface.height = Math.round(height * ratio);
    surface.style.width = `${width}px`;
    surface.style.height = `${height}px`;
  }
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const marks = new Map(
    STATES.map((state) => [state.letter, { state, colour: colour(state.colour) }]),
  );
  const ink = colour("--ink");
  const quiet = colour("--quiet");
  const card = colour("--card");
  const running = colour("--running");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const left = box.scrollLeft;
  const top = box.scrollTop;
  const firstRow = Math.max(0, Math.floor(top / cell));
  const lastRow = Math.min(rows.length, Math.ceil((top + height) / cell));
  const firstColumn = Math.max(0, Math.floor(left / cell));
  const lastColumn = Math.min(columns.length, Math.ceil((left + width) / cell));
  const progress = new Map<string, number>();
  for (const run of runs.values()) {
    if (run.total > 0) progress.set(`${run.obs_id}\n${run.product}`, run.done / run.total);
  }
  for (let rank = firstRow; rank < lastRow; rank += 1) {
    const row = rows[rank];
    if (typeof row !== "string") continue;
    const letters = observations.get(row)?.s ?? "";
    const y = header + rank * cell - top;
    for (let place = firstColumn; place < lastColumn; place += 1) {
      const column = columns[place];
      if (column === undefined) continue;
      const found = marks.get(letters[column.place] ?? ".");
      if (found === undefined) continue;
      const x = names + place * cell - left;
      const done = found.state.letter === "R" ? progress.get(`${row}\n${column.name}`) : undefined;
      if (done !== undefined) {
        context.fillStyle = running;
        context.globalAlpha = 0.25;
        context.fillRect(x + 2, y + 2, cell - 4, cell - 4);
        context.globalAlpha = 1;
        context.fillRect(x + 2, y + 2 + (cell - 4) * (1 - done), cell - 4, (cell - 4) * done);
      } else {
        drawMark(context, found.state, found.colour, x, y, cell);
      }
    }
  }
  // The names, over what has been scrolled under them.
  context.fillStyle = card;
  context.fillRect(0, 0, names - 2, height);
  context.fillRect(0, 0, width, header);
  context.fillStyle = ink;
  context.font = `${fontSize}px ${FONT}`;
  context.textBaseline = "middle";
  context.save();
  context.beginPath();
  context.rect(0, header, names - 6, height);
  context.clip();
  for (let rank = firstRow; rank < lastRow; rank += 1) {
    const row = rows[rank];
    if (typeof row !== "string") continue;
    context.fillText(row, 6, header + rank * cell - top + cell / 2);
  }
  context.restore();
  context.save();
  context.beginPath();
  context.rect(0, header, width, height);
  context.clip();
  context.font = `bold ${fontSize}px ${FONT}`;
  for (let rank = firstRow; rank < lastRow; rank += 1) {
    const row = rows[rank];
    if (row === undefined || typeof row === "string") continue;
    const y = header + rank * cell - top;
    context.fillStyle = colour("--line");
    context.fillRect(0, y + 1, width, cell - 2);
    context.fillStyle = ink;
    context.fillText(row.title, 6, y + cell / 2);
  }
  context.restore();
  context.save();
  context.beginPath();
  context.rect(names - 2, 0, width, header);
  context.clip();
  context.fillStyle = quiet;
  for (let place = firstColumn; place < lastColumn; place += 1) {
    context.save();
    context.translate(names + place * cell - left + cell / 2, header - 6);
    context.rotate(TURN);
    context.fillText(shortened(columns[place]?.name ?? ""), 0, 0);
    context.restore();
  }
  context.restore();
}
