// The mark of a state, and its name.
import type { State } from "../states";
import { stateNamed } from "../states";

export function Mark({ state }: { state: State }) {
  const colour = `var(${state.colour})`;
  const stroke = { fill: "none", stroke: colour, "stroke-width": 2 };
  const body = () => {
    switch (state.shape) {
      case "square":
        return <rect x="2" y="2" width="10" height="10" fill={colour} />;
      case "dot":
        return <circle cx="7" cy="7" r="5" fill={colour} />;
      case "ring":
        return <circle cx="7" cy="7" r="4.2" {...stroke} />;
      case "bar":
        return <rect x="2" y="5" width="10" height="4" fill={colour} />;
      case "triangle":
        return <path d="M7 2 12 12 2 12Z" fill={colour} />;
      case "cross":
        return <path d="M2.5 2.5 11.5 11.5M11.5 2.5 2.5 11.5" {...stroke} />;
      case "pause":
        return <path d="M2 2h3.6v10H2zM8.4 2H12v10H8.4z" fill={colour} />;
      case "eye":
        return (
          <g>
            <circle cx="7" cy="7" r="4.4" {...stroke} />
            <circle cx="7" cy="7" r="1.8" fill={colour} />
          </g>
        );
      default:
        return <circle cx="7" cy="7" r="1" fill={colour} />;
    }
  };
  return (
    <svg class="mark" width="14" height="14" viewBox="0 0 14 14" aria-hidden="true">
      {body()}
    </svg>
  );
}

export function StateLabel({ name }: { name: string }) {
  const state = stateNamed(name);
  return (
    <span class="state" title={state.help}>
      <Mark state={state} />
      {name}
    </span>
  );
}
