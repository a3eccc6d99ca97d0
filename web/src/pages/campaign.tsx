// One campaign: its plan, how far it is, what it has not made, and its report.
import { conductor } from "../api";
import { formatCount, formatDuration, plural } from "../format";
import { aboutOf, CampaignActions, CampaignProgress } from "../parts/campaign_parts";
import { given } from "../parts/filters";
import { Show, useLoaded } from "../parts/loaded";
import { List, usePaged } from "../parts/paged";
import { Time } from "../parts/time";
import { ReprioritizeAllAction } from "../parts/urgency";
import type { Campaign, CampaignItem, CampaignPlan, CampaignReport } from "../records";
import { address, setQuery } from "../router";

export function CampaignPage({ number }: { number: string }) {
  const path = address("campaigns", number);
  const loaded = useLoaded(path, () => conductor<Campaign>(path), 2000);
  return (
    <div class="page stack">
      <Show loaded={loaded}>
        {(campaign) => (
          <>
            <div class="spread">
              <h1>
                <a href="/campaigns">Campaigns</a> / {campaign.number}
                {campaign.name && `, ${campaign.name}`}
              </h1>
              <div class="row noprint">
                {campaign.started && !isOver(campaign) && (
                  <ReprioritizeAllAction
                    filters={{ campaign: campaign.number }}
                    of={`campaign ${campaign.number}`}
                    besides="What the campaign begins from now on has the class of the campaign."
                    done={loaded.reload}
                  />
                )}
                <CampaignActions campaign={campaign} done={loaded.reload} />
              </div>
            </div>
            <Facts campaign={campaign} />
            {campaign.plan && <Plan plan={campaign.plan} />}
            {isOver(campaign) && campaign.started && <Report number={campaign.number} />}
            {campaign.started && <Items campaign={campaign} />}
          </>
        )}
      </Show>
    </div>
  );
}

function isOver(campaign: Campaign): boolean {
  return campaign.state === "done" || campaign.state === "cancelled";
}

function Facts({ campaign }: { campaign: Campaign }) {
  const { progress } = campaign;
  return (
    <section class="card stack">
      <dl class="pairs">
        <dt>State</dt>
        <dd>
          {campaign.state}
          {campaign.reason && `: ${campaign.reason}`}
        </dd>
        <dt>Of what</dt>
        <dd>{aboutOf(campaign)}</dd>
        <dt>Class, priority</dt>
        <dd>
          {campaign.class}, {campaign.priority ?? "that of the graph"};{" "}
          {formatCount(campaign.max_concurrent)} at once, at most
        </dd>
        <dt>Planned, UTC</dt>
        <dd class="mono">
          <Time at={campaign.created} />
        </dd>
        <dt>Started, UTC</dt>
        <dd class="mono">
          <Time at={campaign.started} />
          {campaign.ran_s > 0 && (
            <span class="quiet"> (ran {formatDuration(campaign.ran_s)}, without pauses)</span>
          )}
        </dd>
        <dt>{campaign.ended ? "Ended, UTC" : "Expected end, UTC"}</dt>
        <dd class="mono">
          <Time at={campaign.ended ?? campaign.estimated_end} />
        </dd>
      </dl>
      {campaign.started && (
        <>
          <CampaignProgress campaign={campaign} />
          <div class="figures">
            {(["made", "failed", "skipped", "cancelled", "open", "awaiting"] as const).map(
              (name) => (
                <div class="figure" key={name}>
                  <b>{formatCount(progress[name])}</b>
                  {name}
                </div>
              ),
            )}
          </div>
        </>
      )}
    </section>
  );
}

function Plan({ plan }: { plan: CampaignPlan }) {
  return (
    <section class="card" aria-label="Plan">
      <h2>
        Plan: {plural(plan.processings, "processing")} of {plural(plan.observations, "observation")}
        {plan.estimate_s !== null && `, about ${formatDuration(plan.estimate_s)}`}
      </h2>
      <p class="quiet">
        {plural(plan.looked_at, "observation")} looked at.
        {plan.unknown > 0 &&
          ` Nothing is recorded of ${formatCount(plan.unknown)}: ${plan.unknown_names.join(", ")}.`}
        {plan.without_record.length > 0 &&
          ` The estimate lacks ${plan.without_record.join(", ")}: never made before.`}
      </p>
      <div class="columns">
        <div class="scroll">
          <table>
            <thead>
              <tr>
                <th>Product</th>
                <th>Provider</th>
                <th class="number">Processings</th>
                <th class="number">Cannot be made</th>
                <th class="number">Takes each</th>
              </tr>
            </thead>
            <tbody>
              {plan.products.map((each) => (
                <tr key={each.product}>
                  <td>{each.product}</td>
                  <td>{each.provider}</td>
                  <td class="number">{formatCount(each.processings)}</td>
                  <td class="number">{formatCount(each.lacking)}</td>
                  <td class="number">
                    {each.mean_s === null ? "not known" : formatDuration(each.mean_s)}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
        <div class="scroll">
          <table>
            <thead>
              <tr>
                <th>Provider</th>
                <th class="number">Processings</th>
                <th class="number">At once</th>
              </tr>
            </thead>
            <tbody>
              {plan.providers.map((each) => (
                <tr key={each.provider}>
                  <td>{each.provider}</td>
                  <td class="number">{formatCount(each.processings)}</td>
                  <td class="number">{formatCount(each.at_once)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </div>
    </section>
  );
}

function Report({ number }: { number: number }) {
  const path = `/campaigns/${number}/report`;
  const loaded = useLoaded(path, () => conductor<CampaignReport>(path));
  return (
    <section class="card" aria-label="Report">
      <h2>Report</h2>
      <Show loaded={loaded}>
        {(report) => (
          <div class="scroll">
            <table>
              <thead>
                <tr>
                  <th>Product</th>
                  <th class="number">Planned</th>
                  <th class="number">Made</th>
                  <th class="number">Failed</th>
                  <th class="number">Skipped</th>
                  <th class="number">Cancelled</th>
                  <th class="number">Not begun</th>
                  <th>Why not</th>
                </tr>
              </thead>
              <tbody>
                {report.products.map((each) => (
                  <tr key={each.product}>
                    <td>{each.product}</td>
                    <td class="number">{formatCount(each.planned)}</td>
                    <td class="number">{formatCount(each.made)}</td>
                    <td class="number">{formatCount(each.failed)}</td>
                    <td class="number">{formatCount(each.skipped)}</td>
                    <td class="number">{formatCount(each.cancelled)}</td>
                    <td class="number">{formatCount(each.not_begun)}</td>
                    <td class="error-text">
                      {each.reasons.map((why) => (
                        <div key={`${why.state} ${why.reason}`}>
                          {formatCount(why.number)} {why.state}: {why.reason} (such as{" "}
                          <a href={address("observations", why.example)}>{why.example}</a>)
                        </div>
                      ))}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </Show>
    </section>
  );
}

const ITEM_STATES = ["failed", "skipped", "cancelled", "blocked", "ready", "awaiting", "open"];

function Items({ campaign }: { campaign: Campaign }) {
  const state = given("items") || "failed";
  const paged = usePaged<CampaignItem>(
    `/campaigns/${campaign.number}/items`,
    { state, limit: 100 },
    isOver(campaign) ? 0 : 5000,
  );
  return (
    <section class="card" aria-label="What is not made">
      <div class="spread">
        <h2>What was begun, and is not made</h2>
        <label>
          State{" "}
          <select
            value={state}
            onChange={(event) => setQuery({ items: event.currentTarget.value })}
          >
            {ITEM_STATES.map((each) => (
              <option key={each}>{each}</option>
            ))}
          </select>
        </label>
      </div>
      <List paged={paged} empty={`Nothing of it is ${state}.`}>
        {(items) => (
          <table>
            <tbody>
              {items.map((each) => (
                <tr key={`${each.product} ${each.obs_id}`}>
                  <td>
                    <a
                      href={
                        each.processing
                          ? address("processings", each.processing)
                          : address("observations", each.obs_id)
                      }
                    >
                      {each.product} of {each.obs_id}
                    </a>
                  </td>
                  <td class="mono">
                    <Time at={each.at} />
                  </td>
                  <td class="error-text">{each.reason}</td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </List>
    </section>
  );
}
