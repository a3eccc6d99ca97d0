// Observations by products, on a canvas that draws only what is seen.
import { effect } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { TEXT_PX } from "../format";
import { observations, observationsChanged, runs, runsChanged } from "../live/store";
import { go } from "../router";
import { theme } from "../settings";
import { drawMark, STATES, stateOfLetter } from "../states";

export interface MatrixColumn {
  name: string;
  /** Its place among the letters of an observation. */
  place: number;
}

/** The cell that the arrows have led to, by the places of its row and its column. */
interface Cursor {
  row: number;
  column: number;
}

interface Hover {
  x: number;
  y: number;
  text: string;
}

const MAX_NAME = 20;
/** How names of columns are turned, radians. */
const TURN = -1.15;

/** Beside text of the usual size. */
const CELL = 20;
/** But on a screen of many pixels, which is looked at from further away. */
const MAX_CELL = 44;

/** Where things are, px. */
interface Geometry {
  cell: number;
  header: number;
  names: number;
  /** How far the name of the last column leans beyond it. */
  lean: number;
}

/** As the style has it. */
const DEFAULT_HEIGHT = "calc(100vh - 13rem)";

const FONT = '"DejaVu Sans Mono", ui-monospace, Menlo, monospace';

interface Props {
  /** The observations, as they are listed: called whenever some have changed. */
  rows: () => string[];
  columns: MatrixColumn[];
  /** Whether cells grow with the width that there is, as on a wall. */
  isFitted?: boolean;
  height?: string;
  label?: string;
}

export function Matrix({
  rows,
  columns,
  isFitted = false,
  height,
  label = "Observations by products",
}: Props) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const space = useRef<HTMLDivElement>(null);
  const [hover, setHover] = useState<Hover | null>(null);
  const shown = useRef<string[]>([]);
  const cursor = useRef<Cursor | null>(null);
  const redraw = useRef<() => void>(() => undefined);
  const [said, setSaid] = useState("");
  const current = useRef({ rows, columns });
  current.current = { rows, columns };
  const geometry = useRef<Geometry>({ cell: CELL, header: 96, names: 120, lean: 0 });

  useEffect(() => {
    const element = box.current;
    const surface = canvas.current;
    const context = surface?.getContext("2d");
    if (!element || !surface || !context) return;
    let isDue = false;
    let isListDue = true;
    const draw = () => {
      isDue = false;
      if (isListDue) {
        shown.current = current.current.rows();
        isListDue = false;
      }
      geometry.current = measured(element, shown.current, current.current.columns, isFitted);
      const { cell, header, names, lean } = geometry.current;
      if (space.current) {
        space.current.style.height = `${header + shown.current.length * cell}px`;
        // No taller than its rows.
        const most = height ?? DEFAULT_HEIGHT;
        element.style.maxHeight = `min(${most}, ${header + shown.current.length * cell + 20}px)`;
        space.current.style.width = `${names + current.current.columns.length * cell + lean}px`;
      }
      paint(context, surface, element, shown.current, current.current.columns, geometry.current);
      if (cursor.current) outline(context, element, cursor.current, geometry.current);
    };
    const schedule = () => {
      if (!isDue) {
        isDue = true;
        requestAnimationFrame(draw);
      }
    };
    redraw.current = schedule;
    const stop = effect(() => {
      observationsChanged.value;
      runsChanged.value;
      theme.value;
      isListDue = true;
      schedule();
    });
    element.addEventListener("scroll", schedule, { passive: true });
    const observer = new ResizeObserver(schedule);
    observer.observe(element);
    return () => {
      stop();
      observer.disconnect();
      element.removeEventListener("scroll", schedule);
    };
  }, [isFitted]);

  const at = (event: MouseEvent) => {
    const element = box.current;
    if (!element) return null;
    const area = element.getBoundingClientRect();
    const x = event.clientX - area.left;
    const y = event.clientY - area.top;
    const { cell, header, names } = geometry.current;
    if (y < header) return null;
    const row = shown.current[Math.floor((y - header + element.scrollTop) / cell)];
    if (row === undefined) return null;
    const column =
      x < names ? undefined : columns[Math.floor((x - names + element.scrollLeft) / cell)];
    return { row, column, x: event.clientX, y: event.clientY };
  };
  const textOf = (row: string, column: MatrixColumn | undefined) => {
    const letters = observations.get(row)?.s ?? "";
    return column
      ? `${row}: ${column.name} ${stateOfLetter(letters[column.place] ?? ".").name}`
      : row;
  };
  const open = (row: string, column: MatrixColumn | undefined) => {
    const product = column ? `?product=${encodeURIComponent(column.name)}` : "";
    go(`/observations/${encodeURIComponent(row)}${product}`);
  };
  const onKey = (event: KeyboardEvent) => {
    const element = box.current;
    if (!element || shown.current.length === 0) return;
    if (event.key === "Enter") {
      const { row, column } = cursor.current ?? {
        row: Math.floor(element.scrollTop / geometry.current.cell),
        column: -1,
      };
      open(shown.current[row] ?? shown.current[0] ?? "", columns[column]);
      return;
    }
    const moved = movedBy(event.key, cursor.current, shown.current.length, columns.length);
    if (!moved) return;
    event.preventDefault();
    cursor.current = moved;
    bringIntoView(element, moved, geometry.current);
    setSaid(textOf(shown.current[moved.row] ?? "", columns[moved.column]));
    redraw.current();
  };
  return (
    <>
      <section
        class="matrix"
        ref={box}
        tabIndex={0}
        aria-label={label}
        style={height ? { height } : {}}
        onMouseMove={(event) => {
          const found = at(event);
          if (!found) return setHover(null);
          setHover({ x: found.x, y: found.y, text: textOf(found.row, found.column) });
        }}
        onMouseLeave={() => setHover(null)}
        onClick={(event) => {
          const found = at(event);
          if (found) open(found.row, found.column);
        }}
        onKeyDown={onKey}
      >
        <canvas ref={canvas} />
        <div ref={space} style={{ position: "absolute", top: 0, left: 0, pointerEvents: "none" }} />
      </section>
      <div class="visually-hidden" role="status">
        {said}
      </div>
      {hover && (
        <div class="hover" style={{ left: `${hover.x + 14}px`, top: `${hover.y + 12}px` }}>
          {hover.text}
        </div>
      )}
    </>
  );
}

/** Return where an arrow leads to; the first one leads to the first cell. */
function movedBy(
  key: string,
  cursor: Cursor | null,
  rows: number,
  columns: number,
): Cursor | undefined {
  const steps: Record<string, [number, number]> = {
    ArrowDown: [1, 0],
    ArrowUp: [-1, 0],
    ArrowRight: [0, 1],
    ArrowLeft: [0, -1],
  };
  const step = steps[key];
  if (!step) return undefined;
  if (!cursor) return { row: 0, column: 0 };
  return {
    row: Math.min(rows - 1, Math.max(0, cursor.row + step[0])),
    column: Math.min(columns - 1, Math.max(0, cursor.column + step[1])),
  };
}

function bringIntoView(box: HTMLElement, { row, column }: Cursor, geometry: Geometry): void {
  const { cell, header, names } = geometry;
  const highest = (row + 1) * cell + header - box.clientHeight;
  const leftmost = (column + 1) * cell + names - box.clientWidth;
  box.scrollTop = Math.min(row * cell, Math.max(highest, box.scrollTop));
  box.scrollLeft = Math.min(column * cell, Math.max(leftmost, box.scrollLeft));
}

/** Outline the cell that the arrows have led to, unless it has been scrolled away. */
function outline(
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
function measured(
  box: HTMLElement,
  rows: string[],
  columns: MatrixColumn[],
  isFitted: boolean,
): Geometry {
  const longest = rows.reduce((most, name) => Math.max(most, name.length), 8);
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

function paint(
  context: CanvasRenderingContext2D,
  surface: HTMLCanvasElement,
  box: HTMLElement,
  rows: string[],
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
    if (row === undefined) continue;
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
    context.fillText(rows[rank] ?? "", 6, header + rank * cell - top + cell / 2);
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
