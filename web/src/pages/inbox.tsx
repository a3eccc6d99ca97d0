// What needs somebody: failures by cause, late results, and what is late.
import { conductor } from "../api";
import { formatAge, formatCount, plural, secondsOf } from "../format";
import { live, now } from "../live/store";
import { AnswerAction, ApprovalName } from "../parts/answers";
import { given, TextFilter } from "../parts/filters";
import { HoldAction } from "../parts/hold_actions";
import { useLoaded } from "../parts/loaded";
import { StateLabel } from "../parts/mark";
import { List, type Paged, usePaged } from "../parts/paged";
import { counted, type SetFilters, SetOrderAction } from "../parts/set_orders";
import { Time } from "../parts/time";
import type { Approval, FailureGroup, Hold, Late, Processing } from "../records";
import { canBeRetried, hasEnded } from "../records";
import { address, setQuery } from "../router";
import { CancelAction, RetryAction } from "./observation";

const REFRESH_MS = 5000;

export function Inbox() {
  const provider = given("provider");
  const failures = usePaged<FailureGroup>("/failures", { provider, limit: 500 }, REFRESH_MS);
  const results = usePaged<Approval>("/approvals", { gate: "late", limit: 200 }, REFRESH_MS);
  const late = live<{ items: Late[]; total: number }>("late").value;
  return (
    <div class="page stack">
      <div class="spread">
        <h1>Inbox</h1>
        <TextFilter name="provider" label="Provider" />
      </div>
      <section class="card" aria-label="Failures">
        <h2>Failures, by provider and error</h2>
        <Failures paged={failures} />
      </section>
      {(results.problem || (results.items ?? []).length > 0) && <Results paged={results} />}
      {late !== undefined && late.total > 0 && (
        <LateProducts items={late.items} total={late.total} />
      )}
    </div>
  );
}

function Failures({ paged }: { paged: Paged<FailureGroup> }) {
  const holds = useLoaded("/holds", () => conductor<{ items: Hold[] }>("/holds"), REFRESH_MS);
  const held = new Set(
    (holds.value?.items ?? [])
      .filter((hold) => !hold.product && !hold.obs_id && !hold.class && !hold.campaign)
      .map((hold) => hold.provider ?? "*"),
  );
  const done = () => {
    paged.reload();
    holds.reload();
  };
  return (
    <List paged={paged} empty="Nothing has failed, and nothing is tried again.">
      {(items) => (
        <div class="scroll">
          <table>
            <thead>
              <tr>
                <th>Provider, and error</th>
                <th class="number">Failed</th>
                <th class="number">Tried again</th>
                <th>Products</th>
                <th>Since (UTC)</th>
                <th>Last</th>
                <th>
                  <span class="visually-hidden">Orders</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {[...items]
                .sort((a, b) => b.failed - a.failed || b.retrying - a.retrying)
                .map((group) => (
                  <Group
                    key={`${group.provider} ${group.kind}`}
                    group={group}
                    isHeld={held.has(group.provider) || held.has("*")}
                    done={done}
                  />
                ))}
            </tbody>
          </table>
        </div>
      )}
    </List>
  );
}

interface GroupProps {
  group: FailureGroup;
  isHeld: boolean;
  done: () => void;
}

function Group({ group, isHeld, done }: GroupProps) {
  const name = `${group.provider} ${group.kind}`;
  const isOpen = given("group") === name;
  const filters: SetFilters = { provider: group.provider, error_kind: group.kind };
  const of = `of ${group.provider}: ${group.kind || "no error was told"}`;
  return (
    <>
      <tr>
        <td class="error-text">
          <a href={`/providers?provider=${encodeURIComponent(group.provider)}`}>{group.provider}</a>
          {isHeld && " (held)"}
          <br />
          <button
            type="button"
            class="plain"
            style={{ textAlign: "left", padding: 0 }}
            aria-expanded={isOpen}
            title={group.error ?? ""}
            onClick={() => setQuery({ group: isOpen ? null : name })}
          >
            {isOpen ? "▾" : "▸"} {group.kind || "no error was told"}
          </button>
        </td>
        <td class="number">{formatCount(group.failed)}</td>
        <td class="number">{formatCount(group.retrying)}</td>
        <td>{counted(group.products)}</td>
        <td class="mono">
          <Time at={group.since} />
        </td>
        <td>{formatAge(now.value / 1000 - secondsOf(group.latest))} ago</td>
        <td class="noprint">
          <div class="row">
            <SetOrderAction
              label="Retry all"
              name={`Retry all ${of}`}
              command="retry"
              filters={{ ...filters, state: ["failed", "retrying"] }}
              title={`Retry all ${of}`}
              effect={`Each is asked of ${group.provider} now, with all its attempts.`}
              done={done}
            />
            {group.retrying > 0 && (
              <SetOrderAction
                label="Cancel all"
                name={`Cancel all ${of}`}
                command="cancel"
                filters={{ ...filters, state: ["retrying"] }}
                title={`Cancel what is tried again ${of}`}
                effect="They are not tried again; nothing follows from them until they are retried."
                done={done}
              />
            )}
            {!isHeld && (
              <HoldAction
                scope={{ provider: group.provider }}
                what={`provider ${group.provider}`}
                label="Hold provider"
                done={done}
              />
            )}
          </div>
        </td>
      </tr>
      {isOpen && (
        <tr>
          <td colSpan={7}>
            <Members group={group} done={done} />
          </td>
        </tr>
      )}
    </>
  );
}

function Members({ group, done }: { group: FailureGroup; done: () => void }) {
  const filters = { provider: group.provider, error_kind: group.kind, limit: 50 };
  const failed = usePaged<Processing>("/processings", { ...filters, state: "failed" });
  const retrying = usePaged<Processing>("/processings", { ...filters, state: "retrying" });
  return (
    <>
      {group.failed > 0 && <MemberTable paged={failed} done={done} />}
      {group.retrying > 0 && <MemberTable paged={retrying} done={done} />}
    </>
  );
}

function MemberTable({ paged, done }: { paged: Paged<Processing>; done: () => void }) {
  const reload = () => {
    paged.reload();
    done();
  };
  return (
    <List paged={paged} empty="None is left.">
      {(items) => (
        <table>
          <tbody>
            {items.map((each) => (
              <tr key={each.id}>
                <td>
                  <a href={address("processings", each.id)}>
                    {each.product} of {each.obs_id}
                  </a>
                </td>
                <td>
                  <StateLabel name={each.state} />
                </td>
                <td class="number">
                  {each.attempt} of {plural(each.max_attempts, "attempt")}
                </td>
                <td class="mono">
                  <Time at={each.ended ?? each.requested} />
                </td>
                <td class="error-text">{each.error}</td>
                <td class="noprint">
                  <div class="row">
                    {canBeRetried(each) && <RetryAction processing={each} done={reload} />}
                    {!hasEnded(each) && <CancelAction processing={each} done={reload} />}
                  </div>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </List>
  );
}

function byProduct(results: Approval[]): Map<string, Approval[]> {
  const products = new Map<string, Approval[]>();
  for (const each of results) {
    products.set(each.product, [...(products.get(each.product) ?? []), each]);
  }
  return products;
}

function Results({ paged }: { paged: Paged<Approval> }) {
  return (
    <section class="card" aria-label="Late results">
      <h2>Late results of what was given up</h2>
      <List paged={paged} empty="No late result waits for an answer.">
        {(items) =>
          [...byProduct(items)].map(([product, results]) => (
            <ResultsOf key={product} product={product} items={results} done={paged.reload} />
          ))
        }
      </List>
    </section>
  );
}

interface ResultsOfProps {
  product: string;
  items: Approval[];
  done: () => void;
}

function ResultsOf({ product, items, done }: ResultsOfProps) {
  return (
    <details open={items.length < 6}>
      <summary>
        {product}: {plural(items.length, "result")}
      </summary>
      {items.length > 1 && (
        <div class="row noprint">
          <AnswerAction items={items} verdict="approve" label="Adopt all" done={done} />
          <AnswerAction items={items} verdict="refuse" label="Refuse all" done={done} />
        </div>
      )}
      <table>
        <tbody>
          {items.map((each) => (
            <tr key={`${each.obs_id} ${each.version}`}>
              <td>
                <ApprovalName approval={each} />
              </td>
              <td class="error-text">{each.detail}</td>
              <td class="mono">
                <Time at={each.since} />
              </td>
              <td class="noprint">
                <div class="row">
                  <AnswerAction items={[each]} verdict="approve" done={done} />
                  <AnswerAction items={[each]} verdict="refuse" done={done} />
                </div>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}

function LateProducts({ items, total }: { items: Late[]; total: number }) {
  return (
    <section class="card" aria-label="Late products">
      <h2>Late: {plural(total, "product")}</h2>
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <th>Product</th>
              <th>Was due (UTC)</th>
              <th>Late by</th>
              <th>State</th>
            </tr>
          </thead>
          <tbody>
            {items.map((each) => (
              <tr key={`${each.product} ${each.obs_id}`}>
                <td>
                  <a
                    href={`${address("observations", each.obs_id)}?product=${encodeURIComponent(each.product)}`}
                  >
                    {each.product} of {each.obs_id}
                  </a>
                </td>
                <td class="mono">
                  <Time at={each.due} />
                </td>
                <td>{formatAge(now.value / 1000 - secondsOf(each.due))}</td>
                <td>{each.state ? <StateLabel name={each.state} /> : "was not asked for"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {items.length < total && (
        <p class="quiet">The {items.length} that were due first are shown.</p>
      )}
    </section>
  );
}
