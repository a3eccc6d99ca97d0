// The states of a product: a name, a colour and a shape each, so that colour alone tells nothing.

export type Shape =
  | "dot"
  | "square"
  | "ring"
  | "bar"
  | "triangle"
  | "cross"
  | "pause"
  | "eye"
  | "none";

export interface State {
  letter: string;
  name: string;
  /** The custom property of the style sheet that has its colour. */
  colour: string;
  shape: Shape;
  help: string;
}

export const STATES: readonly State[] = [
  { letter: "A", name: "available", colour: "--made", shape: "square", help: "made, or arrived" },
  {
    letter: "S",
    name: "stale",
    colour: "--stale",
    shape: "square",
    help: "made from an earlier version of an input",
  },
  { letter: "R", name: "running", colour: "--running", shape: "dot", help: "being computed" },
  {
    letter: "q",
    name: "queued",
    colour: "--running",
    shape: "ring",
    help: "waits at its pipeline",
  },
  {
    letter: "r",
    name: "requested",
    colour: "--running",
    shape: "bar",
    help: "asked of its pipeline",
  },
  {
    letter: "w",
    name: "waiting",
    colour: "--waiting",
    shape: "ring",
    help: "waits for its turn, or for inputs",
  },
  {
    letter: "t",
    name: "retrying",
    colour: "--warning",
    shape: "triangle",
    help: "failed, and is tried again",
  },
  { letter: "F", name: "failed", colour: "--failed", shape: "cross", help: "failed each time" },
  {
    letter: "c",
    name: "cancelled",
    colour: "--quiet",
    shape: "cross",
    help: "stopped by an operator",
  },
  { letter: "h", name: "held", colour: "--held", shape: "pause", help: "kept back by a hold" },
  { letter: "u", name: "unapproved", colour: "--held", shape: "eye", help: "waits for a person" },
  { letter: "x", name: "refused", colour: "--quiet", shape: "eye", help: "refused by a person" },
  {
    letter: "W",
    name: "withdrawn",
    colour: "--quiet",
    shape: "square",
    help: "withdrawn from the archive",
  },
  { letter: ".", name: "missing", colour: "--grid", shape: "none", help: "not asked for yet" },
];

/** What versions are besides: of no product of the matrix. */
const VERSION_STATES: readonly State[] = [
  { letter: "", name: "current", colour: "--made", shape: "square", help: "the one that counts" },
  { letter: "", name: "earlier", colour: "--quiet", shape: "ring", help: "a newer one counts" },
];

const BY_LETTER = new Map(STATES.map((each) => [each.letter, each]));
const BY_NAME = new Map([...STATES, ...VERSION_STATES].map((each) => [each.name, each]));
const MISSING = BY_LETTER.get(".") as State;

export function stateOfLetter(letter: string): State {
  return BY_LETTER.get(letter) ?? MISSING;
}

export function stateNamed(name: string): State {
  if (name === "succeeded") return BY_NAME.get("available") as State;
  return BY_NAME.get(name) ?? MISSING;
}

/** Draw the mark of a state into a square of a canvas. */
export function drawMark(
  context: CanvasRenderingContext2D,
  state: State,
  colour: string,
  left: number,
  top: number,
  size: number,
): void {
  if (state.shape === "none") {
    context.fillStyle = colour;
    context.fillRect(left + size / 2 - 1, top + size / 2 - 1, 2, 2);
    return;
  }
  const pad = Math.max(1, size * 0.16);
  const x = left + pad;
  const y = top + pad;
  const side = size - 2 * pad;
  const middleX = left + size / 2;
  const middleY = top + size / 2;
  context.fillStyle = colour;
  context.strokeStyle = colour;
  context.lineWidth = Math.max(1.2, size * 0.13);
  context.beginPath();
  switch (state.shape) {
    case "square":
      context.fillRect(x, y, side, side);
      return;
    case "dot":
      context.arc(middleX, middleY, side / 2, 0, 7);
      context.fill();
      return;
    case "ring":
      context.arc(middleX, middleY, side / 2 - context.lineWidth / 2, 0, 7);
      context.stroke();
      return;
    case "bar":
      context.fillRect(x, middleY - side / 5, side, (side * 2) / 5);
      return;
    case "triangle":
      context.moveTo(middleX, y);
      context.lineTo(x + side, y + side);
      context.lineTo(x, y + side);
      context.fill();
      return;
    case "cross":
      context.moveTo(x, y);
      context.lineTo(x + side, y + side);
      context.moveTo(x + side, y);
      context.lineTo(x, y + side);
      context.stroke();
      return;
    case "pause":
      context.fillRect(x, y, side * 0.36, side);
      context.fillRect(x + side * 0.64, y, side * 0.36, side);
      return;
    case "eye":
      context.arc(middleX, middleY, side / 2 - context.lineWidth / 2, 0, 7);
      context.stroke();
      context.beginPath();
      context.arc(middleX, middleY, side / 5, 0, 7);
      context.fill();
      return;
  }
}
