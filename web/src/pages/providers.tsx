// The providers, their instances, and which of them are left alone.
import { conductor, order } from "../api";
import { Action } from "../parts/actions";
import { openCircuits } from "../parts/bar";
import { given, TextFilter } from "../parts/filters";
import { HoldAction, ReleaseAction } from "../parts/hold_actions";
import { Show, useLoaded } from "../parts/loaded";
import { Time } from "../parts/time";
import type { Hold, Instance, Provider } from "../records";
import { address } from "../router";

interface Stop {
  processing: string;
  product: string;
  obs_id: string;
  provider: string;
  since: string;
  tries: number;
  next_try: string;
  problem: string | null;
}

const REFRESH_MS = 3000;

export function Providers() {
  const loaded = useLoaded(
    "/providers",
    () => conductor<{ items: Provider[] }>("/providers"),
    REFRESH_MS,
  );
  const holds = useLoaded("/holds", () => conductor<{ items: Hold[] }>("/holds"), REFRESH_MS);
  const wanted = given("provider").toLowerCase();
  const done = () => {
    loaded.reload();
    holds.reload();
  };
  return (
    <div class="page stack">
      <div class="spread">
        <h1>Providers</h1>
        <TextFilter name="provider" label="Provider" />
      </div>
      <Show loaded={loaded}>
        {(page) => {
          const items = page.items.filter((each) => each.provider.toLowerCase().includes(wanted));
          if (items.length === 0)
            return (
              <p class="empty">
                {wanted
                  ? "No provider has that name."
                  : "The graph has no provider: apply one at the graph."}
              </p>
            );
          return items.map((each) => (
            <ProviderCard
              key={each.provider}
              provider={each}
              holds={(holds.value?.items ?? []).filter((hold) => isOf(hold, each.provider))}
              done={done}
            />
          ));
        }}
      </Show>
      <Stops />
    </div>
  );
}

/** Whether a hold is of a provider as a whole. */
function isOf(hold: Hold, provider: string): boolean {
  const { product, obs_id, campaign } = hold;
  return hold.provider === provider && !product && !obs_id && !campaign && !hold.class;
}

interface CardProps {
  provider: Provider;
  holds: Hold[];
  done: () => void;
}

function ProviderCard({ provider, holds, done }: CardProps) {
  const name = provider.provider;
  const open = openCircuits([provider]);
  return (
    <section class="card" aria-label={`Provider ${name}`}>
      <div class="spread">
        <h2>
          {name}
          {holds.length > 0 && <span class="quiet"> (held)</span>}
        </h2>
        <div class="row noprint">
          {open > 0 && (
            <Action
              label="Close circuit"
              name={`Close circuit of ${name}`}
              done={done}
              asked={{
                title: `Close the circuit of ${name}`,
                effect: `Requests are sent to ${open === 1 ? "its address" : `its ${open} addresses`} again, at once, although it failed.`,
                run: () => order("DELETE", `/providers/${encodeURIComponent(name)}/circuit`),
              }}
            />
          )}
          {holds.length === 0 ? (
            <HoldAction scope={{ provider: name }} what={`provider ${name}`} done={done} />
          ) : (
            holds.map((hold) => <ReleaseAction key={hold.number} hold={hold} done={done} />)
          )}
        </div>
      </div>
      <p class="quiet">
        At once: {provider.max_concurrent ?? "any number"}
        {provider.max_concurrent_per_instance !== null &&
          `, ${provider.max_concurrent_per_instance} at an instance`}
      </p>
      {provider.instances.length === 0 ? (
        <p class="empty">No address is known: give it one as `url` in the graph.</p>
      ) : (
        <div class="scroll">
          <table>
            <thead>
              <tr>
                <th>Instance</th>
                <th class="number">Processings there</th>
                <th>Circuit</th>
                <th>Since (UTC)</th>
                <th>Tried again (UTC)</th>
                <th>What went wrong last</th>
              </tr>
            </thead>
            <tbody>
              {provider.instances.map((each) => (
                <InstanceRow key={each.address} instance={each} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function InstanceRow({ instance }: { instance: Instance }) {
  const isOpen = instance.circuit !== "closed";
  return (
    <tr>
      <td class="mono">
        {instance.address}
        {!instance.in_use && " (no longer in the graph)"}
      </td>
      <td class="number">{instance.processings}</td>
      <td style={isOpen ? { color: "var(--failed)", fontWeight: 600 } : {}}>
        {instance.circuit}
        {instance.lost && ", lost"}
      </td>
      <td class="mono">
        <Time at={instance.since} />
      </td>
      <td class="mono">
        <Time at={instance.retry_at ?? instance.full_until} />
      </td>
      <td class="error-text">{instance.reason}</td>
    </tr>
  );
}

function Stops() {
  const loaded = useLoaded("/stops", () => conductor<{ items: Stop[] }>("/stops"), REFRESH_MS);
  const items = loaded.value?.items ?? [];
  if (items.length === 0) return null;
  return (
    <section class="card" aria-label="Stops">
      <h2>Stopped, and its provider was not told yet</h2>
      <table>
        <thead>
          <tr>
            <th>Processing</th>
            <th>Provider</th>
            <th>Since (UTC)</th>
            <th class="number">Tries</th>
            <th>Next try (UTC)</th>
            <th>Why not</th>
          </tr>
        </thead>
        <tbody>
          {items.map((each) => (
            <tr key={each.processing}>
              <td>
                <a href={address("processings", each.processing)}>
                  {each.product} of {each.obs_id}
                </a>
              </td>
              <td>{each.provider}</td>
              <td class="mono">
                <Time at={each.since} />
              </td>
              <td class="number">{each.tries}</td>
              <td class="mono">
                <Time at={each.next_try} />
              </td>
              <td class="error-text">{each.problem}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
