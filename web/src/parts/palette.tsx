// Search and commands: from any page to any other, and to any observation that is followed live.
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { observations } from "../live/store";
import { address, go } from "../router";
import { PLACES } from "./bar";

const MAX_OBSERVATIONS = 8;

interface Target {
  label: string;
  address: string;
}

function targetsOf(text: string): Target[] {
  const wanted = text.trim().toLowerCase();
  const has = (name: string) => name.toLowerCase().includes(wanted);
  const pages = PLACES.filter((each) => has(each.label)).map((each) => ({
    label: each.label,
    address: each.target,
  }));
  if (!wanted) return pages;
  const found: Target[] = [];
  for (const name of observations.keys()) {
    if (!has(name)) continue;
    found.push({ label: `observation ${name}`, address: address("observations", name) });
    // One whose whole name was given comes first, however many there are.
    if (name.toLowerCase() === wanted) found.unshift(...found.splice(-1));
    else if (found.length > MAX_OBSERVATIONS) found.pop();
  }
  return [...found.slice(0, MAX_OBSERVATIONS), ...pages];
}

export function Palette({ close }: { close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [text, setText] = useState("");
  const [chosen, setChosen] = useState(0);
  // At once: what is typed next is meant for it.
  useLayoutEffect(() => dialog.current?.showModal(), []);
  const targets = targetsOf(text);
  const open = (target: Target | undefined) => {
    if (!target) return;
    dialog.current?.close();
    go(target.address);
  };
  const onKey = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined && targets.length > 0) {
      event.preventDefault();
      setChosen((chosen + step + targets.length) % targets.length);
    } else if (event.key === "Enter") {
      event.preventDefault();
      open(targets[chosen]);
    }
  };
  return (
    // The browser closes it by Escape, and gives the focus back to what had it.
    <dialog ref={dialog} aria-label="Search and commands" onClose={close}>
      <input
        type="text"
        role="combobox"
        aria-label="Observation, or page"
        aria-expanded="true"
        aria-controls="palette"
        {...(targets[chosen] ? { "aria-activedescendant": `palette-${chosen}` } : {})}
        placeholder="an observation, or a page"
        value={text}
        onInput={(event) => {
          setText(event.currentTarget.value);
          setChosen(0);
        }}
        onKeyDown={onKey}
      />
      <div id="palette" role="listbox" aria-label="Found">
        {targets.map((each, rank) => (
          <div
            key={each.address}
            id={`palette-${rank}`}
            role="option"
            tabIndex={-1}
            class={rank === chosen ? "target chosen" : "target"}
            aria-selected={rank === chosen}
            onClick={() => open(each)}
            onKeyDown={onKey}
          >
            {each.label}
          </div>
        ))}
      </div>
      {targets.length === 0 && <p class="quiet">Nothing that is shown live has that name.</p>}
    </dialog>
  );
}
