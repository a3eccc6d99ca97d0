// What was heard of data, and what became of it.
import { conductor } from "../api";
import { names } from "../live/store";
import { asTime, ChoiceFilter, given, TextFilter, TimeFilter } from "../parts/filters";
import { Show, useLoaded } from "../parts/loaded";
import { StateLabel } from "../parts/mark";
import { List, usePaged } from "../parts/paged";
import { Time } from "../parts/time";
import type { EventDetail, EventRecord } from "../records";
import { address, go } from "../router";

export function Events() {
  const paged = usePaged<EventRecord>(
    "/events",
    {
      outcome: given("outcome"),
      product: given("product"),
      obs_id: given("obs_id"),
      source: given("source"),
      since: asTime(given("since")),
      until: asTime(given("until")),
      limit: 100,
    },
    5000,
  );
  return (
    <div class="page stack">
      <div class="spread">
        <h1>Events</h1>
        <form
          class="row noprint"
          onSubmit={(event) => {
            event.preventDefault();
            const id = String(new FormData(event.currentTarget).get("id") ?? "").trim();
            if (id) go(address("events", id));
          }}
        >
          <label>
            Find by id <input name="id" id="search" required />
          </label>
          <button type="submit">Find</button>
        </form>
      </div>
      <div class="row">
        <ChoiceFilter
          name="outcome"
          label="Outcome"
          any="any"
          choices={["triggered", "waiting", "ignored"]}
        />
        <TextFilter name="product" label="Product" names={names.value} />
        <TextFilter name="obs_id" label="Observation" />
        <TextFilter name="source" label="Source" placeholder="what follows data." />
        <TimeFilter name="since" label="From" />
        <TimeFilter name="until" label="Until" />
      </div>
      <List
        paged={paged}
        empty={
          <>
            No event was heard of that is like that. Each announcement on <code>data.*</code> is
            recorded with what became of it.
          </>
        }
      >
        {(items) => <EventTable items={items} />}
      </List>
    </div>
  );
}

export function EventTable({ items }: { items: EventRecord[] }) {
  return (
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th>Received (UTC)</th>
            <th>Source</th>
            <th>Of what</th>
            <th>Outcome</th>
            <th>What became of it</th>
            <th>Id</th>
          </tr>
        </thead>
        <tbody>
          {items.map((each) => (
            <tr key={`${each.received} ${each.sequence}`}>
              <td class="mono">
                <Time at={each.received} />
              </td>
              <td>{each.source}</td>
              <td>
                <About event={each} />
              </td>
              <td>{each.outcome}</td>
              <td class="error-text">
                <Became event={each} />
              </td>
              <td class="mono error-text">
                <a href={address("events", each.id)}>{each.id}</a>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function About({ event }: { event: EventRecord }) {
  if (!event.product || !event.obs_id) return <span class="quiet">not told</span>;
  return (
    <a
      href={`${address("observations", event.obs_id)}?product=${encodeURIComponent(event.product)}`}
    >
      {event.product} of {event.obs_id}
      {event.version ? `, version ${event.version}` : ""}
      {event.stage !== null && `, ${event.stage}`}
    </a>
  );
}

function Became({ event }: { event: EventRecord }) {
  const triggered = Object.entries(event.triggered);
  const waiting = Object.entries(event.waiting);
  return (
    <>
      {triggered.map(([product, id], rank) => (
        <span key={product}>
          {rank > 0 && ", "}
          <a href={address("processings", id)}>{product}</a>
        </span>
      ))}
      {waiting.map(([product, lacks]) => (
        <div key={product}>
          {product} lacked {lacks.join(", ")}
        </div>
      ))}
      {event.reason && <div>{event.reason}</div>}
    </>
  );
}

export function EventPage({ id }: { id: string }) {
  const path = address("events", id);
  const loaded = useLoaded(path, () => conductor<EventDetail>(path), 5000);
  return (
    <div class="page stack">
      <h1 style={{ overflowWrap: "anywhere" }}>
        <a href="/events">Events</a> / {id}
      </h1>
      <Show loaded={loaded}>
        {(event) => (
          <>
            <section class="card">
              <dl class="pairs">
                <dt>Received, UTC</dt>
                <dd class="mono">
                  <Time at={event.received} />
                </dd>
                <dt>Source</dt>
                <dd>
                  {event.source}, number {event.sequence} in its stream
                </dd>
                <dt>Of what</dt>
                <dd>
                  <About event={event} />
                </dd>
                <dt>Outcome</dt>
                <dd>{event.outcome}</dd>
                <dt>What became of it</dt>
                <dd>
                  <Became event={event} />
                </dd>
                {Object.entries(event.lacking).map(([product, lacks]) => (
                  <>
                    <dt key={product}>{product} lacks now</dt>
                    <dd>{lacks.join(", ") || "nothing"}</dd>
                  </>
                ))}
              </dl>
            </section>
            {event.processings.length > 0 && (
              <section class="card">
                <h2>What it has caused, as that is now</h2>
                <table>
                  <tbody>
                    {event.processings.map((each) => (
                      <tr key={each.id}>
                        <td>
                          <a href={address("processings", each.id)}>
                            {each.product} of {each.obs_id}
                          </a>
                        </td>
                        <td>
                          <StateLabel name={each.state} />
                        </td>
                        <td class="error-text">{each.error}</td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </section>
            )}
            {event.repeats.length > 0 && (
              <section class="card">
                <h2>Repeated</h2>
                <EventTable items={event.repeats} />
              </section>
            )}
          </>
        )}
      </Show>
    </div>
  );
}
