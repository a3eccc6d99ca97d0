// All observations that are followed live, by products.
import { useMemo } from "preact/hooks";
import { plural } from "../format";
import { graph, names, observations, observationsChanged } from "../live/store";
import { Mark } from "../parts/mark";
import { Matrix } from "../parts/matrix";
import { query, setQuery } from "../router";
import { STATES, stateOfLetter } from "../states";

type Order = "newest" | "name" | "failed" | "progress";

const ORDERS: Record<Order, string> = {
  newest: "heard of last",
  name: "by name",
  failed: "most failures first",
  progress: "least complete first",
};

function counted(letters: string, wanted: RegExp): number {
  return letters.match(wanted)?.length ?? 0;
}

function sorted(found: string[], order: Order): string[] {
  const letters = (name: string) => observations.get(name)?.s ?? "";
  if (order === "newest") return found.reverse();
  if (order === "name") return found.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const wanted = order === "failed" ? /F/g : /[AS]/g;
  const sign = order === "failed" ? -1 : 1;
  const by = new Map(found.map((name) => [name, sign * counted(letters(name), wanted)]));
  return found.sort((a, b) => (by.get(a) ?? 0) - (by.get(b) ?? 0));
}

export function Observations() {
  observationsChanged.value;
  const text = query.value.get("search") ?? "";
  const letter = query.value.get("state") ?? "";
  const order = (query.value.get("order") ?? "newest") as Order;
  const level = query.value.get("level");
  const levels = graph.value?.levels ?? [];
  const columns = useMemo(() => {
    const place = new Map(names.value.map((name, rank) => [name, rank]));
    const chosen = level === null ? levels.flat() : (levels[Number(level)] ?? []);
    return chosen.map((name) => ({ name, place: place.get(name) ?? 0 }));
  }, [levels, level]);
  const rows = () => {
    const wanted = text.toLowerCase();
    const places = columns.map((column) => column.place);
    const found: string[] = [];
    for (const [name, each] of observations) {
      if (wanted && !name.toLowerCase().includes(wanted)) continue;
      if (letter && !places.some((place) => each.s[place] === letter)) continue;
      found.push(name);
    }
    return sorted(found, ORDERS[order] ? order : "newest");
  };
  const count = rows().length;
  return (
    <div class="page stack">
      <div class="spread">
        <h1>Observations</h1>
        <span class="quiet">
          {plural(count, "observation")}
          {count < observations.size ? ` of ${observations.size}` : ""}, live
        </span>
      </div>
      <div class="row">
        <label>
          Search{" "}
          <input
            id="search"
            type="search"
            value={text}
            placeholder="part of a name"
            onInput={(event) => setQuery({ search: event.currentTarget.value })}
          />
        </label>
        <label>
          Order{" "}
          <select
            value={order}
            onChange={(event) => setQuery({ order: event.currentTarget.value })}
          >
            {Object.entries(ORDERS).map(([value, label]) => (
              <option key={value} value={value}>
                {label}
              </option>
            ))}
          </select>
        </label>
        <label>
          Products{" "}
          <select
            value={level ?? ""}
            onChange={(event) => setQuery({ level: event.currentTarget.value || null })}
          >
            <option value="">of all levels</option>
            {levels.map((each, rank) => (
              <option key={each[0]} value={String(rank)}>
                {rank === 0 ? "inputs" : `level ${rank}`} ({each.length})
              </option>
            ))}
          </select>
        </label>
      </div>
      <fieldset class="chips" style={{ border: 0, padding: 0, margin: 0 }}>
        <legend class="visually-hidden">Only observations with a product in this state</legend>
        {STATES.map((state) => (
          <button
            type="button"
            key={state.letter}
            class="chip state"
            title={state.help}
            aria-pressed={letter === state.letter}
            onClick={() => setQuery({ state: letter === state.letter ? null : state.letter })}
          >
            <Mark state={state} />
            {state.name}
          </button>
        ))}
      </fieldset>
      {observations.size === 0 ? (
        <p class="empty">
          No observation yet. One appears with its first file:{" "}
          <code>batuta import --product P --obs-id O FILE</code>
        </p>
      ) : count === 0 ? (
        <p class="empty">
          None is like that{letter ? ` with a product that is ${stateOfLetter(letter).name}` : ""}.{" "}
          <button
            type="button"
            class="plain"
            onClick={() => setQuery({ search: null, state: null })}
          >
            Show all
          </button>
        </p>
      ) : (
        <Matrix rows={rows} columns={columns} height="calc(100vh - 15rem)" />
      )}
    </div>
  );
}
