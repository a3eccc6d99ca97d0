// Campaigns: the list, and planning a new one.
import { useState } from "preact/hooks";
import { ApiError, order, scopes } from "../api";
import { graph } from "../live/store";
import { aboutOf, CampaignActions, CampaignProgress } from "../parts/campaign_parts";
import { asTime, ChoiceFilter, given, Names } from "../parts/filters";
import { List, usePaged } from "../parts/paged";
import { Time } from "../parts/time";
import { type Campaign, WORK_CLASSES } from "../records";
import { go, setQuery } from "../router";

const STATES = ["planning", "planned", "running", "paused", "cancelling", "cancelled", "done"];

export function Campaigns() {
  const paged = usePaged<Campaign>("/campaigns", { state: given("state"), limit: 50 }, 3000);
  const mayPlan = scopes.value.includes("operate");
  const isPlanning = mayPlan && given("plan") !== "";
  return (
    <div class="page stack">
      <div class="spread">
        <h1>Campaigns</h1>
        <div class="row noprint">
          <ChoiceFilter name="state" label="State" any="any" choices={STATES} />
          {mayPlan && (
            <button
              type="button"
              class="main"
              aria-expanded={isPlanning}
              onClick={() => setQuery({ plan: isPlanning ? null : "new" })}
            >
              Plan a campaign
            </button>
          )}
        </div>
      </div>
      {isPlanning && <PlanForm />}
      <List
        paged={paged}
        empty="No campaign was planned yet. One makes products of many observations again, or those that are missing, stale or failed; its plan tells what and how long before anything is made."
      >
        {(items) => (
          <div class="scroll">
            <table>
              <thead>
                <tr>
                  <th class="number">Campaign</th>
                  <th>Of what</th>
                  <th>State</th>
                  <th>Done</th>
                  <th>Started (UTC)</th>
                  <th>Ended, or expected (UTC)</th>
                  <th>
                    <span class="visually-hidden">Orders</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {items.map((each) => (
                  <Row key={each.number} campaign={each} done={paged.reload} />
                ))}
              </tbody>
            </table>
          </div>
        )}
      </List>
    </div>
  );
}

function Row({ campaign, done }: { campaign: Campaign; done: () => void }) {
  return (
    <tr>
      <td class="number">
        <a href={`/campaigns/${campaign.number}`}>{campaign.number}</a>
      </td>
      <td class="error-text">
        <a href={`/campaigns/${campaign.number}`}>{campaign.name ?? aboutOf(campaign)}</a>
      </td>
      <td>{campaign.state}</td>
      <td style={{ minWidth: "14rem" }}>
        <CampaignProgress campaign={campaign} />
      </td>
      <td class="mono">
        <Time at={campaign.started} />
      </td>
      <td class="mono">
        <Time at={campaign.ended ?? campaign.estimated_end} />
        {!campaign.ended && campaign.estimated_end && <span class="quiet"> expected</span>}
      </td>
      <td>
        <CampaignActions campaign={campaign} done={done} />
      </td>
    </tr>
  );
}

const SCOPES: Record<string, string> = {
  all: "all, made before or not",
  missing: "what is missing",
  stale: "what is stale",
  failed: "what has failed",
};

function words(text: FormDataEntryValue | null): string[] {
  return String(text ?? "")
    .split(/[\s,]+/)
    .filter((each) => each !== "");
}

function PlanForm() {
  const [problems, setProblems] = useState<readonly string[]>([]);
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const text = (name: string) => String(form.get(name) ?? "").trim() || null;
    const number = (name: string) => (text(name) === null ? undefined : Number(text(name)));
    setBusy(true);
    setProblems([]);
    try {
      const planned = await order<Campaign>("POST", "/campaigns", {
        name: text("name"),
        products: words(form.get("products")),
        scope: text("scope"),
        downstream: form.get("downstream") !== null,
        obs_ids: words(form.get("obs_ids")),
        since: asTime(text("since") ?? "") ?? null,
        until: asTime(text("until") ?? "") ?? null,
        class: text("class"),
        priority: number("priority") ?? null,
        max_concurrent: number("max_concurrent"),
      });
      go(`/campaigns/${planned.number}`);
    } catch (error) {
      const known = error instanceof ApiError ? error.problems : [];
      setProblems(known.length > 0 ? known : [(error as Error).message]);
    } finally {
      setBusy(false);
    }
  };
  return (
    <form class="card form noprint" aria-label="Plan a campaign" onSubmit={submit}>
      <p class="wide quiet" style={{ margin: 0 }}>
        Planning counts what would be made, and changes nothing: the campaign is started from its
        plan.
      </p>
      <label>
        Name
        <input name="name" maxLength={100} placeholder="may be left out" />
      </label>
      <label>
        Products, or patterns
        <input name="products" placeholder="B C*" list="plan-products" />
        <Names id="plan-products" names={Object.keys(graph.value?.document.products ?? {})} />
      </label>
      <label>
        Of these
        <select name="scope">
          {Object.entries(SCOPES).map(([value, label]) => (
            <option key={value} value={value}>
              {label}
            </option>
          ))}
        </select>
      </label>
      <label class="flat">
        <input type="checkbox" name="downstream" /> and all that is made from them
      </label>
      <label>
        Observations first heard of from, UTC
        <input type="datetime-local" name="since" />
      </label>
      <label>
        until, UTC
        <input type="datetime-local" name="until" />
      </label>
      <label>
        Class
        <select name="class">
          <option value="">backfill if missing, else reprocess</option>
          {WORK_CLASSES.map((each) => (
            <option key={each} value={each}>
              {each}
            </option>
          ))}
        </select>
      </label>
      <label>
        Priority
        <input type="number" name="priority" step={1} placeholder="that of the graph" />
      </label>
      <label>
        At once, at most
        <input type="number" name="max_concurrent" min={1} max={10_000} placeholder="1000" />
      </label>
      <label class="wide">
        Observations, or patterns; empty: all
        <textarea name="obs_ids" rows={2} placeholder="o1 o2 survey-*" />
      </label>
      {problems.length > 0 && (
        <div class="problem wide" role="alert">
          {problems.map((each) => (
            <div key={each}>{each}</div>
          ))}
        </div>
      )}
      <button type="submit" class="main" disabled={isBusy}>
        {isBusy ? "Planning…" : "Plan"}
      </button>
    </form>
  );
}
