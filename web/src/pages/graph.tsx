// The product graph: the one in force, its versions, and putting another in force.
import { useState } from "preact/hooks";
import { conductor } from "../api";
import { graph } from "../live/store";
import type { LiveGraph } from "../live/types";
import { given } from "../parts/filters";
import { ApplyAction, ChangeForm } from "../parts/graph_change";
import { GraphView } from "../parts/graph_view";
import { Show, useLoaded } from "../parts/loaded";
import { List, usePaged } from "../parts/paged";
import { Time } from "../parts/time";
import type { GraphVersion } from "../records";
import { setQuery } from "../router";

export function GraphPage() {
  const selected = given("product") || undefined;
  const live = graph.value;
  const [turn, setTurn] = useState(0);
  return (
    <div class="page stack">
      <h1>Product graph{live ? `, version ${live.number}` : ""}</h1>
      <section class="card">
        {live ? (
          <GraphView
            graph={live}
            selected={selected}
            onSelect={(name) => setQuery({ product: name === selected ? null : name })}
          />
        ) : (
          <p class="empty">The graph was not told yet.</p>
        )}
      </section>
      {live && selected && <Definition live={live} name={selected} />}
      <Versions changes={`${live?.number} ${turn}`} done={() => setTurn(turn + 1)} />
      <ChangeForm done={() => setTurn(turn + 1)} />
    </div>
  );
}

function Definition({ live, name }: { live: LiveGraph; name: string }) {
  const product = live.document.products[name];
  return (
    <section class="card" aria-label={name}>
      <h2>{name}</h2>
      {product ? (
        <dl class="pairs">
          {Object.entries(product).map(([key, value]) => (
            <>
              <dt key={key}>{key}</dt>
              <dd>{Array.isArray(value) ? value.join(", ") || "none" : JSON.stringify(value)}</dd>
            </>
          ))}
        </dl>
      ) : (
        <p class="quiet">An input: it arrives, or is imported.</p>
      )}
    </section>
  );
}

function Versions({ changes, done }: { changes: string; done: () => void }) {
  const paged = usePaged<GraphVersion>("/graph/versions", { limit: 20 }, 10_000, changes);
  const shown = given("version");
  return (
    <section class="card" aria-label="Versions">
      <h2>Versions</h2>
      <List paged={paged} empty="No version is recorded.">
        {(items) => (
          <div class="scroll">
            <table>
              <thead>
                <tr>
                  <th class="number">Version</th>
                  <th>In force from (UTC)</th>
                  <th>By</th>
                  <th>Note</th>
                  <th>What it starts</th>
                  <th>
                    <span class="visually-hidden">Orders</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {items.map((each) => (
                  <tr key={each.number}>
                    <td class="number">{each.number}</td>
                    <td class="mono">
                      <Time at={each.applied} />
                    </td>
                    <td>{each.by}</td>
                    <td class="error-text">{each.note}</td>
                    <td>{each.settled ? "was started" : "is being started"}</td>
                    <td class="noprint">
                      <div class="row">
                        <button
                          type="button"
                          aria-expanded={shown === String(each.number)}
                          aria-label={`Show version ${each.number}`}
                          onClick={() =>
                            setQuery({
                              version: shown === String(each.number) ? null : String(each.number),
                            })
                          }
                        >
                          Show
                        </button>
                        {each.in_force ? (
                          <span class="quiet">in force</span>
                        ) : (
                          <GoBack number={each.number} done={done} />
                        )}
                      </div>
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </List>
      {shown && <Document number={shown} />}
    </section>
  );
}

function GoBack({ number, done }: { number: number; done: () => void }) {
  return (
    <ApplyAction
      label="Go back to it"
      name={`Go back to version ${number}`}
      title={`Put version ${number} in force again`}
      chosen={{ version: number }}
      done={done}
    />
  );
}

function Document({ number }: { number: string }) {
  const path = `/graph/versions/${encodeURIComponent(number)}`;
  const loaded = useLoaded(path, () => conductor<{ graph: unknown }>(path));
  return (
    <Show loaded={loaded}>
      {(version) => (
        <pre class="log" tabIndex={0}>
          {JSON.stringify(version.graph, null, 2)}
        </pre>
      )}
    </Show>
  );
}
