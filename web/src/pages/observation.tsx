// One observation: its graph, coloured by state as it changes; its processings along time; why.
import { conductor, order, type Page, withQuery } from "../api";
import { formatDuration, secondsOf } from "../format";
import { graph, names, observations, observationsChanged } from "../live/store";
import { Action } from "../parts/actions";
import { GraphView } from "../parts/graph_view";
import { Show, useLoaded } from "../parts/loaded";
import { StateLabel } from "../parts/mark";
import { SmallQuicklook } from "../parts/quicklook";
import { SmallTiles } from "../parts/tile_grid";
import { Time } from "../parts/time";
import { Timeline } from "../parts/timeline";
import { ReprioritizeAction, ReprioritizeAllAction } from "../parts/urgency";
import { Why } from "../parts/why";
import type { ObservationDetail, Processing, ProductState } from "../records";
import { canBeRetried, hasEnded, isToBeMade } from "../records";
import { address, query, setQuery } from "../router";
import { stateOfLetter } from "../states";

const MAX_QUICKLOOKS = 24;

export function ObservationPage({ obsId }: { obsId: string }) {
  observationsChanged.value;
  const seen = observations.get(obsId);
  const letters = seen?.s ?? "";
  const changes = `${letters} ${seen?.t ?? ""}`;
  const selected = query.value.get("product") ?? undefined;
  const path = address("observations", obsId);
  const detail = useLoaded(path, () => conductor<ObservationDetail>(path), 10_000, changes);
  const listed = withQuery("/processings", { obs_id: obsId, limit: 200 });
  const processings = useLoaded(listed, () => conductor<Page<Processing>>(listed), 10_000, changes);
  const place = new Map(names.value.map((name, rank) => [name, rank]));
  const reload = () => {
    detail.reload();
    processings.reload();
  };
  return (
    <div class="page stack">
      <div class="spread">
        <h1>
          <a href="/observations">Observations</a> / {obsId}
        </h1>
        <div class="row">
          {letters && (
            <span class="quiet">
              {(letters.match(/[AS]/g) ?? []).length} of {letters.length} inputs and products
              available
            </span>
          )}
          {processings.value?.items.some(isToBeMade) && (
            <div class="noprint">
              <ReprioritizeAllAction
                filters={{ obs_id: obsId }}
                of={`observation ${obsId}`}
                done={reload}
              />
            </div>
          )}
        </div>
      </div>
      <section class="card">
        <h2>Product graph{graph.value ? `, version ${graph.value.number}` : ""}</h2>
        {graph.value ? (
          <GraphView
            graph={graph.value}
            selected={selected}
            stateOf={(name) => stateOfLetter(letters[place.get(name) ?? -1] ?? ".")}
            onSelect={(name) => setQuery({ product: name === selected ? null : name })}
          />
        ) : (
          <p class="quiet">The graph was not told yet.</p>
        )}
      </section>
      <div class="columns">
        {selected !== undefined && <Why product={selected} obsId={obsId} changes={changes} />}
        <section class="card">
          <h2>Processings along time</h2>
          <Show loaded={processings}>{(page) => <Timeline processings={page.items} />}</Show>
        </section>
      </div>
      <section class="card">
        <h2>Products</h2>
        <Show loaded={detail}>
          {(found) => (
            <div class="scroll">
              <table>
                <thead>
                  <tr>
                    <th>Product</th>
                    <th>State</th>
                    <th class="number">Version</th>
                    <th>Made by</th>
                    <th>Ended (UTC)</th>
                    <th class="number">Took</th>
                    <th>Lacks, or what went wrong</th>
                    <th>
                      <span class="visually-hidden">Orders</span>
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {found.products.map((each) => (
                    <ProductRow key={each.product} obsId={obsId} product={each} done={reload} />
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </Show>
        <Quicklooks obsId={obsId} products={detail.value?.products ?? []} />
      </section>
    </div>
  );
}

/** The pictures of what was made, as many as have room. */
function Quicklooks({ obsId, products }: { obsId: string; products: ProductState[] }) {
  const shown = products.filter((each) => each.version !== null).slice(0, MAX_QUICKLOOKS);
  return (
    <div class="quicklooks">
      {shown.map((each) => (
        <SmallQuicklook
          key={each.product}
          product={each.product}
          obsId={obsId}
          version={each.version ?? 0}
        />
      ))}
    </div>
  );
}

function ProductRow({
  obsId,
  product,
  done,
}: {
  obsId: string;
  product: ProductState;
  done: () => void;
}) {
  const processing = product.processing;
  const took =
    processing?.started && processing.ended
      ? formatDuration(secondsOf(processing.ended) - secondsOf(processing.started))
      : "";
  return (
    <tr>
      <td>
        <a href={address("products", product.product, obsId)}>{product.product}</a>
      </td>
      <td>
        <StateLabel name={product.stale ? "stale" : product.state} />
      </td>
      <td class="number">{product.version ?? ""}</td>
      <td>
        {processing ? (
          <a href={address("processings", processing.id)}>{processing.provider}</a>
        ) : (
          ""
        )}
      </td>
      <td class="mono">
        <Time at={processing?.ended ?? null} />
      </td>
      <td class="number">{took}</td>
      <td style={{ overflowWrap: "anywhere" }}>
        {product.stale ??
          processing?.error ??
          (product.lacks.length > 0 ? `lacks ${product.lacks.join(", ")}` : "")}
        {processing?.state === "running" && processing.progress.total > 1 && (
          <SmallTiles id={processing.id} height={36} />
        )}
      </td>
      <td class="noprint">
        <ProductActions obsId={obsId} product={product} done={done} />
      </td>
    </tr>
  );
}

function ProductActions({
  obsId,
  product,
  done,
}: {
  obsId: string;
  product: ProductState;
  done: () => void;
}) {
  const processing = product.processing;
  const isMade = graph.value?.document.products[product.product] !== undefined;
  if (processing && !hasEnded(processing)) {
    return (
      <div class="row">
        {canBeRetried(processing) && <RetryAction processing={processing} done={done} />}
        {isToBeMade(processing) && <ReprioritizeAction processing={processing} done={done} />}
        <CancelAction processing={processing} done={done} />
      </div>
    );
  }
  if (processing && canBeRetried(processing)) {
    return <RetryAction processing={processing} done={done} />;
  }
  if (!isMade || product.lacks.length > 0) return null;
  return (
    <Action
      label="Make again"
      done={done}
      asked={{
        title: `Make ${product.product} of ${obsId}`,
        effect: `A new version is asked of its pipeline, whatever was made before; what is made from ${product.product} follows.`,
        run: () => order("POST", "/processings", { product: product.product, obs_id: obsId }),
      }}
    />
  );
}

export function CancelAction({ processing, done }: { processing: Processing; done: () => void }) {
  return (
    <Action
      label="Cancel"
      done={done}
      asked={{
        title: `Cancel ${processing.product} of ${processing.obs_id}`,
        effect: `It is stopped here and at ${processing.provider}; nothing follows from it until it is retried.`,
        withReason: true,
        isDangerous: true,
        run: (reason) =>
          order(
            "DELETE",
            withQuery(`/processings/${encodeURIComponent(processing.id)}`, { reason }),
          ),
      }}
    />
  );
}

export function RetryAction({ processing, done }: { processing: Processing; done: () => void }) {
  return (
    <Action
      label="Retry"
      done={done}
      asked={{
        title: `Retry ${processing.product} of ${processing.obs_id}`,
        effect: `It is asked of ${processing.provider} now, with ${processing.max_attempts === 1 ? "its one attempt" : `all its ${processing.max_attempts} attempts`}.`,
        withReason: true,
        run: (reason) =>
          order(
            "POST",
            withQuery(`/processings/${encodeURIComponent(processing.id)}/retry`, { reason }),
          ),
      }}
    />
  );
}
