// What operators hold: placed, shown, released.
import { useState } from "preact/hooks";
import { conductor, scopes } from "../api";
import { formatCount } from "../format";
import { graph } from "../live/store";
import { asTime, Names } from "../parts/filters";
import { HoldAction, ReleaseAction, type Scope } from "../parts/hold_actions";
import { Show, useLoaded } from "../parts/loaded";
import { Time } from "../parts/time";
import { type Hold, WORK_CLASSES } from "../records";
import { query, setQuery } from "../router";

export function Holds() {
  const loaded = useLoaded("/holds", () => conductor<{ items: Hold[] }>("/holds"), 5000);
  return (
    <div class="page stack">
      <h1>Holds</h1>
      {scopes.value.includes("operate") && <Place done={loaded.reload} />}
      <Show loaded={loaded}>
        {(page) =>
          page.items.length === 0 ? (
            <p class="empty">
              Nothing is held. A hold keeps back what is to be made, from now or from a time on,
              until it is released.
            </p>
          ) : (
            <div class="scroll">
              <table>
                <thead>
                  <tr>
                    <th class="number">Hold</th>
                    <th>Of what</th>
                    <th>State</th>
                    <th>Since, or from (UTC)</th>
                    <th class="number">Keeps back</th>
                    <th class="number">It alone</th>
                    <th>By, and why</th>
                    <th>
                      <span class="visually-hidden">Orders</span>
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {page.items.map((hold) => (
                    <Row key={hold.number} hold={hold} done={loaded.reload} />
                  ))}
                </tbody>
              </table>
            </div>
          )
        }
      </Show>
    </div>
  );
}

function Row({ hold, done }: { hold: Hold; done: () => void }) {
  return (
    <tr>
      <td class="number">{hold.number}</td>
      <td>{hold.what}</td>
      <td>
        {hold.state}
        {hold.rate && `, ${hold.rate}`}
      </td>
      <td class="mono">
        <Time at={hold.since} />
      </td>
      <td class="number">{formatCount(hold.keeps)}</td>
      <td class="number">{formatCount(hold.alone)}</td>
      <td class="error-text">
        {hold.by}
        {hold.reason && `: ${hold.reason}`}
      </td>
      <td class="noprint">
        {hold.pause ? (
          <a href={`/campaigns/${hold.campaign}`}>Resume its campaign</a>
        ) : (
          <ReleaseAction hold={hold} done={done} />
        )}
      </td>
    </tr>
  );
}

const FIELDS = ["provider", "product", "obs_id", "class", "campaign"] as const;

/** The scope is a part of the address, so that others can link to a hold that is to be placed. */
function Place({ done }: { done: () => void }) {
  const [from, setFrom] = useState("");
  const given = (name: string) => query.value.get(name) ?? "";
  const products = graph.value?.document.products ?? {};
  const providers = [...new Set(Object.values(products).map((each) => each.provider))];
  const scope: Scope = {};
  for (const name of FIELDS) {
    const value = given(name);
    if (value && name === "campaign") scope.campaign = Number(value);
    else if (value && name !== "campaign") scope[name] = value;
  }
  const said = FIELDS.filter((name) => given(name)).map((name) => `${LABELS[name]} ${given(name)}`);
  const field = (name: (typeof FIELDS)[number], names: readonly string[] = []) => (
    <label>
      {LABELS[name]}
      <input
        value={given(name)}
        placeholder="any"
        list={`hold-${name}`}
        inputMode={name === "campaign" ? "numeric" : "text"}
        onInput={(event) => setQuery({ [name]: event.currentTarget.value.trim() })}
      />
      <Names id={`hold-${name}`} names={names} />
    </label>
  );
  return (
    <section class="card noprint" aria-label="Place a hold">
      <h2>Place a hold</h2>
      <div class="form">
        {field("provider", providers)}
        {field("product", Object.keys(products))}
        {field("obs_id")}
        {field("class", WORK_CLASSES)}
        {field("campaign")}
        <label>
          from, UTC; empty: now
          <input
            type="datetime-local"
            value={from}
            onInput={(event) => setFrom(event.currentTarget.value)}
          />
        </label>
        <HoldAction
          scope={scope}
          what={said.length > 0 ? said.join(", ") : "everything"}
          from={asTime(from)}
          label={said.length > 0 ? "Hold…" : "Hold everything…"}
          done={() => {
            setQuery(Object.fromEntries(FIELDS.map((name) => [name, null])));
            setFrom("");
            done();
          }}
        />
      </div>
    </section>
  );
}

const LABELS: Record<(typeof FIELDS)[number], string> = {
  provider: "provider",
  product: "product",
  obs_id: "observation",
  class: "class",
  campaign: "campaign",
};
