// One product of an observation: its versions, what is known of one, and its lineage both ways.
import { Fragment } from "preact";
import { conductor, type Page, sdb, withQuery } from "../api";
import { formatBytes, plural } from "../format";
import { lineageOf, versionKey } from "../lineage";
import { observations, observationsChanged } from "../live/store";
import { LineageView, versionAddress } from "../parts/lineage_view";
import { Problem, Show, useLoaded } from "../parts/loaded";
import { StateLabel } from "../parts/mark";
import { Quicklook } from "../parts/quicklook";
import { Time } from "../parts/time";
import { beforeHistory, type WhyAnswer } from "../parts/why";
import { WithdrawAction } from "../parts/withdraw";
import type { ObservationDetail, StoredProduct } from "../records";
import { address, query } from "../router";

/** Pages of 1000 versions that are asked for, of all of an observation. */
const MAX_PAGES = 5;

/** What the archive has of an observation. */
interface Archived {
  all: StoredProduct[];
  newest: Map<string, number>;
  /** Why the newest version of a product is stale, as the conductor tells it. */
  stale: Map<string, string>;
  isWhole: boolean;
}

async function listed(filters: Record<string, string>): Promise<[StoredProduct[], boolean]> {
  const found: StoredProduct[] = [];
  let cursor: string | number | null = null;
  for (let rank = 0; rank < MAX_PAGES; rank += 1) {
    const page: Page<StoredProduct> = await sdb(
      withQuery("/products", { ...filters, limit: 1000, cursor }),
    );
    found.push(...page.items);
    cursor = page.next;
    if (cursor === null) return [found, true];
  }
  return [found, false];
}

async function archived(obsId: string): Promise<Archived> {
  const [[given, isGivenWhole], [withdrawn, isWithdrawnWhole], [latest], states] =
    await Promise.all([
      listed({ obs_id: obsId }),
      listed({ obs_id: obsId, withdrawn: "true" }),
      listed({ obs_id: obsId, latest: "true" }),
      // What the archive has is shown without the conductor too; its problem is told with the why.
      conductor<ObservationDetail>(address("observations", obsId)).then(
        (detail) => detail.products,
        () => [],
      ),
    ]);
  const all = new Map(
    [...given, ...withdrawn].map((each) => [versionKey(each.product, each.version), each]),
  );
  return {
    all: [...all.values()],
    newest: new Map(latest.map((each) => [each.product, each.version])),
    stale: new Map(states.flatMap((each) => (each.stale ? [[each.product, each.stale]] : []))),
    isWhole: isGivenWhole && isWithdrawnWhole,
  };
}

function stateIn(archive: Archived, stored: StoredProduct | undefined): string {
  if (stored === undefined) return "missing";
  if (stored.withdrawn !== null) return "withdrawn";
  if (archive.newest.get(stored.product) !== stored.version) return "earlier";
  return archive.stale.has(stored.product) ? "stale" : "current";
}

export function ProductPage({ product, obsId }: { product: string; obsId: string }) {
  observationsChanged.value;
  const letters = observations.get(obsId)?.s ?? "";
  const archive = useLoaded(`${product} ${obsId}`, () => archived(obsId), 10_000, letters);
  return (
    <div class="page stack">
      <h1>
        <a href="/observations">Observations</a> /{" "}
        <a href={`${address("observations", obsId)}?product=${encodeURIComponent(product)}`}>
          {obsId}
        </a>{" "}
        / {product}
      </h1>
      <Show loaded={archive}>
        {(found) => (
          <Found
            archive={found}
            product={product}
            obsId={obsId}
            changes={letters}
            done={archive.reload}
          />
        )}
      </Show>
    </div>
  );
}

function Found({
  archive,
  product,
  obsId,
  changes,
  done,
}: {
  archive: Archived;
  product: string;
  obsId: string;
  changes: string;
  done: () => void;
}) {
  const versions = archive.all
    .filter((each) => each.product === product)
    .sort((a, b) => b.version - a.version);
  const asked = Number(query.value.get("version")) || archive.newest.get(product);
  const shown =
    versions.find((each) => each.version === asked) ?? (asked ? undefined : versions[0]);
  const why = <NotMadeYet product={product} obsId={obsId} changes={changes} archive={archive} />;
  if (versions.length === 0) {
    return (
      <section class="card">
        <p class="empty">
          The archive has no version of {product} of {obsId}. What it waits for is told below;{" "}
          <code>
            batuta import FILE --product {product} --obs-id {obsId}
          </code>{" "}
          imports one by hand.
        </p>
        {why}
      </section>
    );
  }
  return (
    <>
      {!archive.isWhole && (
        <Problem
          text={`${obsId} has more than ${plural(MAX_PAGES * 1000, "version")}: the first are shown`}
        />
      )}
      {shown === undefined && (
        <Problem text={`${product} of ${obsId} has no version ${asked}: see its versions`} />
      )}
      <div class="columns">
        {shown && (
          <Facts
            stored={shown}
            state={stateIn(archive, shown)}
            stale={archive.stale.get(product)}
            done={done}
          />
        )}
        {shown && (
          <div class="stack">
            <Picture stored={shown} />
            <Metadata stored={shown} />
          </div>
        )}
      </div>
      <Versions versions={versions} shown={shown} archive={archive} />
      {shown && (
        <section class="card">
          <h2>Lineage of version {shown.version}</h2>
          <p class="quiet">
            What it was made from is to its left, what was made from it to its right.
          </p>
          <LineageView
            graph={lineageOf(shown, archive.all)}
            root={shown}
            stateOf={(stored) => stateIn(archive, stored)}
          />
          {why}
        </section>
      )}
    </>
  );
}

function Facts({
  stored,
  state,
  stale,
  done,
}: {
  stored: StoredProduct;
  state: string;
  stale: string | undefined;
  done: () => void;
}) {
  return (
    <section class="card">
      <div class="spread">
        <h2>Version {stored.version}</h2>
        {stored.withdrawn === null && (
          <div class="row noprint">
            <a href={`/api/sdb${versionPath(stored)}/data`} download={stored.filename ?? ""}>
              Download
            </a>
            <WithdrawAction stored={stored} isNewest={state !== "earlier"} done={done} />
          </div>
        )}
      </div>
      <dl class="pairs">
        <dt>State</dt>
        <dd>
          <StateLabel name={state} />
          {state === "stale" && `: ${stale}`}
        </dd>
        {stored.withdrawn !== null && (
          <>
            <dt>Withdrawn, UTC</dt>
            <dd>
              <Time at={stored.withdrawn} /> {stored.withdrawn_reason ?? "(no reason was given)"}
            </dd>
          </>
        )}
        <dt>Stage</dt>
        <dd>{stored.stage ?? "final"}</dd>
        <dt>File</dt>
        <dd>
          {stored.filename ?? "(without a name)"}, {stored.media_type}
        </dd>
        <dt>Size</dt>
        <dd title={`${stored.size} bytes`}>{formatBytes(stored.size)}</dd>
        <dt>SHA-256</dt>
        <dd class="mono">{stored.sha256}</dd>
        <dt>Imported, UTC</dt>
        <dd class="mono">
          <Time at={stored.created} />
        </dd>
        <dt>Made by</dt>
        <dd>
          {stored.provider ?? "an import by hand"}
          {stored.code && `, code ${stored.code}`}
        </dd>
        {stored.processing_id && (
          <>
            <dt>Processing</dt>
            <dd>
              <a href={address("processings", stored.processing_id)}>{stored.processing_id}</a>
            </dd>
          </>
        )}
        {stored.graph_version && (
          <>
            <dt>Graph</dt>
            <dd class="mono">{stored.graph_version}</dd>
          </>
        )}
      </dl>
    </section>
  );
}

function Picture({ stored }: { stored: StoredProduct }) {
  return (
    <section class="card">
      <h2>Quicklook of version {stored.version}</h2>
      {stored.withdrawn === null ? (
        <Quicklook product={stored.product} obsId={stored.obs_id} version={stored.version} />
      ) : (
        <p class="empty">It was withdrawn, and is not shown any more.</p>
      )}
    </section>
  );
}

const DIGITS = 7;

/** A value of metadata; of a number with many digits, those that mean something. */
function displayed(value: unknown): string {
  if (typeof value === "string") return value;
  const isLong = typeof value === "number" && !Number.isInteger(value);
  return JSON.stringify(isLong ? Number(value.toPrecision(DIGITS)) : value);
}

function Metadata({ stored }: { stored: StoredProduct }) {
  const pairs = Object.entries(stored.metadata);
  return (
    <section class="card">
      <h2>Metadata</h2>
      {pairs.length === 0 ? (
        <p class="empty">
          None came with this version. A pipeline gives them with its product:{" "}
          <code>Output(path, metadata={"{…}"})</code>.
        </p>
      ) : (
        <dl class="pairs">
          {pairs.map(([name, value]) => (
            <Fragment key={name}>
              <dt>{name}</dt>
              <dd title={typeof value === "number" ? String(value) : undefined}>
                {displayed(value)}
              </dd>
            </Fragment>
          ))}
        </dl>
      )}
    </section>
  );
}

function Versions({
  versions,
  shown,
  archive,
}: {
  versions: StoredProduct[];
  shown: StoredProduct | undefined;
  archive: Archived;
}) {
  return (
    <section class="card">
      <h2>Versions</h2>
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <th class="number">Version</th>
              <th>State</th>
              <th>Stage</th>
              <th>Imported (UTC)</th>
              <th>Made by</th>
              <th>Made from</th>
              <th class="number">Size</th>
              <th>SHA-256</th>
            </tr>
          </thead>
          <tbody>
            {versions.map((each) => (
              <tr key={each.version} aria-current={each === shown ? "true" : undefined}>
                <td class="number">
                  <a href={versionAddress(each.product, each.obs_id, each.version)}>
                    {each === shown ? <b>{each.version}</b> : each.version}
                  </a>
                </td>
                <td>
                  <StateLabel name={stateIn(archive, each)} />
                </td>
                <td>{each.stage ?? "final"}</td>
                <td class="mono">
                  <Time at={each.created} />
                </td>
                <td>
                  {each.processing_id ? (
                    <a href={address("processings", each.processing_id)}>
                      {each.provider ?? each.processing_id}
                    </a>
                  ) : (
                    (each.provider ?? "by hand")
                  )}
                </td>
                <td>
                  {each.inputs.map((input) => `${input.product} v${input.version}`).join(", ")}
                </td>
                <td class="number" title={`${each.size} bytes`}>
                  {formatBytes(each.size)}
                </td>
                <td class="mono" title={each.sha256}>
                  {each.sha256.slice(0, 12)}…
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** What the conductor tells besides: what could be made from it and is not, or why it lacks. */
function NotMadeYet({
  product,
  obsId,
  changes,
  archive,
}: {
  product: string;
  obsId: string;
  changes: string;
  archive: Archived;
}) {
  const path = `/why/${encodeURIComponent(product)}/${encodeURIComponent(obsId)}`;
  const loaded = useLoaded(path, () => conductor<WhyAnswer>(path), 0, changes);
  const isArchived = archive.newest.has(product);
  return (
    <Show loaded={loaded}>
      {(why) => {
        const missing = why.triggers.filter((each) => !archive.newest.has(each.product));
        return (
          <>
            {!isArchived &&
              beforeHistory(why.words).map((line) => (
                <div key={line} style={{ whiteSpace: "pre-wrap", overflowWrap: "anywhere" }}>
                  {line}
                </div>
              ))}
            {missing.length > 0 && (
              <p>
                <span class="quiet">Is to be made from it, and is not yet: </span>
                {missing.map((each, rank) => (
                  <span key={each.product}>
                    {rank > 0 && ", "}
                    <a href={address("products", each.product, obsId)}>{each.product}</a>
                    {each.lacks.length > 0 && ` (lacks ${each.lacks.join(", ")})`}
                  </span>
                ))}
              </p>
            )}
          </>
        );
      }}
    </Show>
  );
}

function versionPath(stored: StoredProduct): string {
  return `${address("products", stored.product, stored.obs_id)}/versions/${stored.version}`;
}
