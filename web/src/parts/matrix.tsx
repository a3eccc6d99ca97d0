// Observations by products, on a canvas that draws only what is seen.
import { effect } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { observations, observationsChanged, runsChanged } from "../live/store";
import { go } from "../router";
import { theme } from "../settings";
import { stateOfLetter } from "../states";
import {
  CELL,
  type Cursor,
  type Geometry,
  type MatrixColumn,
  type MatrixRow,
  measured,
  outline,
  paint,
} from "./matrix_painter";

interface Hover {
  x: number;
  y: number;
  text: string;
}

/** As the style has it. */
const DEFAULT_HEIGHT = "calc(100vh - 13rem)";

interface Props {
  /** The observations, as they are listed: called whenever some have changed. */
  rows: () => MatrixRow[];
  columns: MatrixColumn[];
  /** Opens or closes a group, by its name. */
  onGroup?: (group: string) => void;
  /** Whether cells grow with the width that there is, as on a wall. */
  isFitted?: boolean;
  height?: string;
  label?: string;
}

export function Matrix({
  rows,
  columns,
  onGroup,
  isFitted = false,
  height,
  label = "Observations by products",
}: Props) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const space = useRef<HTMLDivElement>(null);
  const [hover, setHover] = useState<Hover | null>(null);
  const shown = useRef<MatrixRow[]>([]);
  const cursor = useRef<Cursor | null>(null);
  const redraw = useRef<() => void>(() => undefined);
  const relist = useRef<() => void>(() => undefined);
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
    relist.current = () => {
      isListDue = true;
      schedule();
    };
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
  // Other rows or columns were asked for: nothing live need have changed.
  useEffect(() => relist.current(), [rows, columns]);

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
  const textOf = (row: MatrixRow, column: MatrixColumn | undefined) => {
    if (typeof row !== "string") return row.title;
    const letters = observations.get(row)?.s ?? "";
    return column
      ? `${row}: ${column.name} ${stateOfLetter(letters[column.place] ?? ".").name}`
      : row;
  };
  const open = (row: MatrixRow, column: MatrixColumn | undefined) => {
    if (typeof row !== "string") return onGroup?.(row.group);
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
