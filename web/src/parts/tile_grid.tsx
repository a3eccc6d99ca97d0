// The tiles of a processing, in the geometry of their image, as they are computed.
import { useEffect, useRef, useState } from "preact/hooks";
import { type ApiError, conductor, withQuery } from "../api";
import {
  formatMegabytes,
  formatSeconds,
  megabytesOfCode,
  RUNNING,
  secondsOfCode,
  TILE_STATES,
  type TileGrid,
  Tiles,
  type TilesReport,
} from "../live/tiles";
import { address, query, setQuery } from "../router";
import { theme } from "../settings";
import { drawMark, stateOfLetter } from "../states";
import {
  boxOf,
  type Layout,
  layoutOf,
  type Palette,
  paintTiles,
  paletteOf,
  scaled,
  type TileColour,
  tileAt,
} from "./tile_painter";

const ASK_MS = 1000;
/** How long to wait before asking again for what is not there yet. */
const ASK_AGAIN_MS = 3000;
const COLOURS: readonly TileColour[] = ["state", "time", "memory"];
/** Tiles from this size on have a mark as well as a colour, as far as there are not too many. */
const MARK_FROM = 14;
const MAX_MARKS = 4000;
const MAX_LISTED = 6;

interface Followed {
  tiles: Tiles;
  /** Changes whenever something was read. */
  changes: number;
  problem: string | undefined;
}

/** Ask for the tiles of a processing, and then each second for what has changed, until it ends. */
export function useTiles(id: string, isOver: boolean, everyMs = ASK_MS): Followed {
  const tiles = useRef(new Tiles());
  const [found, setFound] = useState({ changes: 0, problem: undefined as string | undefined });
  useEffect(() => {
    let isCurrent = true;
    let timer: ReturnType<typeof setTimeout> | undefined;
    tiles.current = new Tiles();
    setFound({ changes: 0, problem: undefined });
    const ask = async () => {
      let next = everyMs;
      if (!document.hidden) {
        try {
          const path = `${address("processings", id)}/tiles`;
          const since = tiles.current.seq;
          const report = await conductor<TilesReport>(withQuery(path, { since }));
          if (!isCurrent) return;
          const isNews = report.full || report.changes !== "" || report.ended;
          tiles.current.read(report);
          if (isNews) setFound({ changes: tiles.current.changes, problem: undefined });
          if (report.ended && isOver) return;
        } catch (error) {
          if (!isCurrent) return;
          const isThere = (error as ApiError).status !== 404;
          if (isThere) setFound((before) => ({ ...before, problem: (error as Error).message }));
          else if (isOver) return;
          next = ASK_AGAIN_MS;
        }
      }
      timer = setTimeout(ask, next);
    };
    ask();
    return () => {
      isCurrent = false;
      clearTimeout(timer);
    };
  }, [id, isOver, everyMs]);
  return { tiles: tiles.current, ...found };
}

/** The grid that has most to show: the first that is not finished, or the last. */
function liveliest(tiles: Tiles): number {
  const isOpen = (grid: TileGrid) => {
    const counts = tiles.counts(grid);
    return (counts[1] ?? 0) + (counts[RUNNING] ?? 0) + (counts[3] ?? 0) > 0;
  };
  const open = tiles.grids.findIndex(isOpen);
  return open >= 0 ? open : tiles.grids.length - 1;
}

/** The tiles of a processing with their legend; nothing where it has none. */
export function TileView({ id, isOver }: { id: string; isOver: boolean }) {
  const { tiles, changes, problem } = useTiles(id, isOver);
  const asked = query.value.get("tiles") as TileColour | null;
  const colour = asked !== null && COLOURS.includes(asked) ? asked : "state";
  const chosen = Number.parseInt(query.value.get("grid") ?? "", 10);
  const [line, setLine] = useState("");
  const place = tiles.grids[chosen] === undefined ? liveliest(tiles) : chosen;
  const grid = tiles.grids[place];
  if (grid === undefined) return problem ? <p class="problem">{problem}</p> : null;
  return (
    <div class="stack">
      {problem && <p class="problem">{problem}</p>}
      <div class="row noprint">
        {tiles.grids.length > 1 && (
          <select
            aria-label="Dataset"
            value={String(place)}
            onChange={(event) => setQuery({ grid: event.currentTarget.value })}
          >
            {tiles.grids.map((each, rank) => (
              <option key={each.first} value={String(rank)}>
                {each.record.dataset}, {each.record.rows} × {each.record.cols}
              </option>
            ))}
          </select>
        )}
        <fieldset class="chips plain">
          <legend class="visually-hidden">Colour of tiles</legend>
          {COLOURS.map((each) => (
            <button
              key={each}
              type="button"
              class="chip"
              aria-pressed={each === colour}
              onClick={() => setQuery({ tiles: each === "state" ? null : each })}
            >
              {each}
            </button>
          ))}
        </fieldset>
        <span class="quiet">
          {grid.record.dataset}, {grid.record.rows} × {grid.record.cols} tiles
        </span>
      </div>
      <TileCanvas
        tiles={tiles}
        grid={grid}
        changes={changes}
        colour={colour}
        maxHeight={460}
        onTile={setLine}
      />
      <p class="quiet mono tile-line" aria-live="polite">
        {line || running(tiles, grid)}
      </p>
      <Legend tiles={tiles} grid={grid} colour={colour} />
    </div>
  );
}

/** Where its tiles run. */
function running(tiles: Tiles, grid: TileGrid): string {
  const { rows, cols } = grid.record;
  const found: string[] = [];
  let count = 0;
  for (let place = 0; place < rows * cols; place += 1) {
    if (tiles.stateOf(grid.first + place) !== RUNNING) continue;
    count += 1;
    if (found.length >= MAX_LISTED) continue;
    const worker = tiles.names[(tiles.workers[grid.first + place] ?? 0) - 1] ?? "a worker";
    found.push(`row ${Math.floor(place / cols)}, column ${place % cols} on ${worker}`);
  }
  if (count === 0) return "Point at a tile, or move over them with the arrow keys.";
  const more = count > found.length ? `; and ${count - found.length} more` : "";
  return `${tiles.ended ? "Ran when it ended" : "Running"}: ${found.join("; ")}${more}`;
}

function Legend({ tiles, grid, colour }: { tiles: Tiles; grid: TileGrid; colour: TileColour }) {
  const counts = tiles.counts(grid);
  const palette = paletteOf(tiles, grid, colour, () => "");
  const worded = (code: number) =>
    colour === "time"
      ? formatSeconds(secondsOfCode(code) ?? 0)
      : formatMegabytes(megabytesOfCode(code) ?? 0);
  const steps = Array.from({ length: 9 }, (_, step) => `rgb(${scaled(step / 8).join(" ")})`);
  return (
    <div class="row tile-legend">
      {colour !== "state" &&
        (palette.high === 0 ? (
          <span class="quiet">No {colour} was measured yet.</span>
        ) : (
          <span class="state">
            {worded(palette.low)}
            <i
              class="scale"
              style={{ background: `linear-gradient(90deg, ${steps.join(", ")})` }}
            />
            {worded(palette.high)}
          </span>
        ))}
      {TILE_STATES.map((state, code) =>
        code > 0 && (counts[code] ?? 0) > 0 ? (
          <span key={state.name} class="state">
            <i class="swatch" style={{ background: `var(${state.colour})` }} />
            {state.name === "running" && tiles.ended ? "running when it ended" : state.name}{" "}
            <b>{counts[code]}</b>
          </span>
        ) : null,
      )}
    </div>
  );
}

interface CanvasProps {
  tiles: Tiles;
  grid: TileGrid;
  changes: number;
  colour: TileColour;
  maxHeight: number;
  /** Called with what there is to say of the tile that is looked at; without it, none is. */
  onTile?: (line: string) => void;
}

interface Drawn {
  layout: Layout;
  ratio: number;
}

function TileCanvas({ tiles, grid, changes, colour, maxHeight, onTile }: CanvasProps) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const drawn = useRef<Drawn | null>(null);
  const [width, setWidth] = useState(0);
  const [cursor, setCursor] = useState<number>();
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    const surface = canvas.current;
    if (surface && width > 0) {
      drawn.current = draw(surface, tiles, grid, colour, width, maxHeight, cursor);
    }
  }, [tiles, grid, changes, colour, width, maxHeight, cursor, theme.value]);
  const { rows, cols } = grid.record;
  const look = (place: number | undefined) => {
    setCursor(place);
    onTile?.(
      place === undefined ? "" : tiles.describe(grid, Math.floor(place / cols), place % cols),
    );
  };
  const counts = tiles.counts(grid);
  const label = `${grid.record.dataset}: ${TILE_STATES.flatMap((state, code) =>
    code > 0 && counts[code] ? [`${counts[code]} ${state.name}`] : [],
  ).join(", ")}`;
  const surface = <canvas ref={canvas} role="img" aria-label={label} />;
  if (!onTile) return <div ref={box}>{surface}</div>;
  return (
    <div
      ref={box}
      class="tiles"
      role="application"
      aria-label="Tiles: move over them with the arrow keys"
      tabIndex={0}
      onMouseMove={(event) => {
        const area = canvas.current?.getBoundingClientRect();
        if (!area || !drawn.current) return;
        const { layout, ratio } = drawn.current;
        const x = (event.clientX - area.left) * ratio;
        const y = (event.clientY - area.top) * ratio;
        const isInside = x >= 0 && y >= 0 && x < layout.width && y < layout.height;
        look(isInside ? tileAt(grid, layout, x, y) : undefined);
      }}
      onMouseLeave={() => look(undefined)}
      onBlur={() => look(undefined)}
      onKeyDown={(event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -cols, ArrowDown: cols }[event.key];
        if (step === undefined) return;
        event.preventDefault();
        const next = cursor === undefined ? 0 : cursor + step;
        if (next >= 0 && next < rows * cols) look(next);
      }}
    >
      {surface}
    </div>
  );
}

function draw(
  surface: HTMLCanvasElement,
  tiles: Tiles,
  grid: TileGrid,
  colour: TileColour,
  width: number,
  maxHeight: number,
  cursor: number | undefined,
): Drawn | null {
  const begun = performance.now();
  const context = surface.getContext("2d");
  if (!context) return null;
  const ratio = devicePixelRatio || 1;
  const layout = layoutOf(grid, width * ratio, maxHeight * ratio);
  if (surface.width !== layout.width || surface.height !== layout.height) {
    surface.width = layout.width;
    surface.height = layout.height;
    surface.style.width = `${layout.width / ratio}px`;
    surface.style.height = `${layout.height / ratio}px`;
  }
  const style = getComputedStyle(document.documentElement);
  const colourOf = (name: string) => style.getPropertyValue(name).trim();
  const palette: Palette = paletteOf(tiles, grid, colour, colourOf);
  const image = context.createImageData(layout.width, layout.height);
  paintTiles(new Uint32Array(image.data.buffer), tiles, grid, layout, palette, colour);
  context.putImageData(image, 0, 0);
  drawMarks(context, tiles, grid, layout, ratio, colourOf("--card"));
  if (cursor !== undefined) {
    const [left, top, right, bottom] = boxOf(grid, layout, cursor);
    context.strokeStyle = colourOf("--ink");
    context.lineWidth = 2 * ratio;
    context.strokeRect(left, top, right - left, bottom - top);
  }
  surface.dataset.drawnMs = (performance.now() - begun).toFixed(1);
  return { layout, ratio };
}

/** Marks besides colours, for what runs, is to be tried again or failed, where there is room. */
function drawMarks(
  context: CanvasRenderingContext2D,
  tiles: Tiles,
  grid: TileGrid,
  layout: Layout,
  ratio: number,
  colour: string,
): void {
  const count = grid.record.rows * grid.record.cols;
  if (count > MAX_MARKS) return;
  for (let place = 0; place < count; place += 1) {
    const mark = TILE_STATES[tiles.stateOf(grid.first + place)]?.mark;
    if (!mark || mark === ".") continue;
    const [left, top, right, bottom] = boxOf(grid, layout, place);
    const size = Math.min(right - left, bottom - top, 40 * ratio) * 0.7;
    if (size < MARK_FROM * 0.7 * ratio) continue;
    const x = (left + right - size) / 2;
    const y = (top + bottom - size) / 2;
    drawMark(context, stateOfLetter(mark), colour, x, y, size);
  }
}

/** The tiles of a processing that runs, small: only their states. */
export function SmallTiles({ id, height = 56 }: { id: string; height?: number }) {
  const { tiles, changes } = useTiles(id, false, 2 * ASK_MS);
  const grid = tiles.grids[liveliest(tiles)];
  if (grid === undefined) return null;
  return (
    <TileCanvas tiles={tiles} grid={grid} changes={changes} colour="state" maxHeight={height} />
  );
}
