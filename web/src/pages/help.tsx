// Keys, marks, and the name that orders are recorded under.
import { Mark } from "../parts/mark";
import { operator } from "../settings";
import { STATES } from "../states";

const KEYS: readonly [string, string][] = [
  ["/", "search an observation, or go to a page"],
  ["?", "this page"],
  ["Tab, Shift+Tab", "from one control to the next, or the one before"],
  [
    "arrows",
    "in a table, from row to row and from control to control; in a matrix, from cell to cell",
  ],
  ["Page up, Page down", "scroll a matrix, a table or a log that has the focus"],
  ["Enter", "open what has the focus"],
  ["Escape", "leave a question or a search"],
];

export function Help() {
  return (
    <div class="page stack">
      <h1>Help</h1>
      <div class="columns">
        <section class="card">
          <h2>Marks</h2>
          <table>
            <tbody>
              {STATES.map((state) => (
                <tr key={state.letter}>
                  <td>
                    <span class="state">
                      <Mark state={state} /> {state.name}
                    </span>
                  </td>
                  <td>{state.help}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </section>
        <section class="card">
          <h2>Keys</h2>
          <table>
            <tbody>
              {KEYS.map(([keys, what]) => (
                <tr key={keys}>
                  <td>
                    <code>{keys}</code>
                  </td>
                  <td>{what}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </section>
        <section class="card">
          <h2>Your name</h2>
          <label>
            Orders are recorded under{" "}
            <input
              value={operator.value}
              maxLength={128}
              placeholder="the name of the machine's user"
              onInput={(event) => {
                operator.value = event.currentTarget.value;
              }}
            />
          </label>
          <p class="quiet">It is claimed, unless your token proves it. Kept in this browser.</p>
        </section>
      </div>
      <p>
        Times are in UTC; the local one is shown where the pointer rests. What nothing was heard of
        for three seconds turns grey.
      </p>
    </div>
  );
}
