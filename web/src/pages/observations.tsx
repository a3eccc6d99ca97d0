// All observations that are followed live, by products.
import { useMemo } from "preact/hooks";
import { plural } from "../format";
import { graph, names, observations, observationsChanged } from "../live/store";
import { Mark } from "../parts/mark";
import { Matrix } from "../parts/matrix";
import {
  GROUPINGS,
  type Grouping,
  grouped,
  ORDERS,
  type Order,
  sorted,
} from "../parts/observation_rows";
import { query, setQuery } from "../router";
import { STATES, stateOfLetter } from "../states";

/** What a part of the address lists, with commas between. */
function listed(name: string): Set<string> {
  return new Set((query.value.get(name) ?? "").split(",").filter(Boolean));
}

/** Add it to such a part, or take it out. */
function toggle(name: string, each: string): void {
  const found = listed(name);
  if (!found.delete(each)) found.add(each);
  setQuery({ [name]: [...found].join(",") || null });
}

export function Observations() {
  observationsChanged.value;
  const text = query.value.get("search") ?? "";
  const letter = query.value.get("state") ?? "";
  const order = (query.value.get("order") ?? "newest") as Order;
  const group = query.value.get("group") as Grouping | null;
  const hidden = query.value.get("hidden") ?? "";
  const levels = graph.value?.levels ?? [];
  const columns = useMemo(() => {
    const place = new Map(names.value.map((name, rank) => [name, rank]));
    const without = listed("hidden");
    const chosen = levels.filter((_, rank) => !without.has(String(rank))).flat();
    return chosen.map((name) => ({ name, place: place.get(name) ?? 0 }));
  }, [levels, hidden]);
  const found = () => {
    const wanted = text.toLowerCase();
    const places = columns.map((column) => column.place);
    const names: string[] = [];
    for (const [name, each] of observations) {
      if (wanted && !name.toLowerCase().includes(wanted)) continue;
      if (letter && !places.some((place) => each.s[place] === letter)) continue;
      names.push(name);
    }
    return names;
  };
  const rows = () => {
    const names = sorted(found(), ORDERS[order] ? order : "newest");
    return group !== null && GROUPINGS[group] ? grouped(names, group, listed("closed")) : names;
  };
  const count = found().length;
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
          Groups{" "}
          <select
            value={group ?? ""}
            onChange={(event) => setQuery({ group: event.currentTarget.value, closed: null })}
          >
            <option value="">none</option>
            {Object.entries(GROUPINGS).map(([value, label]) => (
              <option key={value} value={value}>
                {label}
              </option>
            ))}
          </select>
        </label>
        <fieldset class="chips plain">
          <legend class="visually-hidden">Levels of products that are shown</legend>
          {levels.map((each, rank) => (
            <button
              type="button"
              key={each[0]}
              class="chip"
              title={each.join(", ")}
              aria-pressed={!listed("hidden").has(String(rank))}
              onClick={() => toggle("hidden", String(rank))}
            >
              {rank === 0 ? "inputs" : `level ${rank}`} ({each.length})
            </button>
          ))}
        </fieldset>
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
        <Matrix
          rows={rows}
          columns={columns}
          onGroup={(name) => toggle("closed", name)}
          height="calc(100vh - 15rem)"
        />
      )}
    </div>
  );
}
