// What lists and pages of campaigns share: how far one is, and what may be ordered for it.
import { order } from "../api";
import { formatCount, formatDuration } from "../format";
import type { Campaign } from "../records";
import { Action } from "./actions";

type Command = "start" | "pause" | "resume" | "cancel";

const COMMANDS: Record<Campaign["state"], readonly Command[]> = {
  planning: ["cancel"],
  planned: ["start", "cancel"],
  running: ["pause", "cancel"],
  paused: ["resume", "cancel"],
  cancelling: [],
  cancelled: [],
  done: [],
};

function effectOf(command: Command, campaign: Campaign): string {
  const left = campaign.progress.total - campaign.progress.done;
  const estimate = campaign.plan?.estimate_s;
  const time =
    typeof estimate === "number"
      ? `, about ${formatDuration(estimate)} if nothing else is made`
      : "";
  switch (command) {
    case "start":
      return `${formatCount(campaign.plan?.processings ?? left)} processings are made, at most ${formatCount(campaign.max_concurrent)} at once, as ${campaign.class}${time}.`;
    case "pause":
      return `Nothing more of it is requested until it is resumed; ${formatCount(campaign.progress.open)} that run or wait at their pipeline go on.`;
    case "resume":
      return `It goes on: ${formatCount(left)} of ${formatCount(campaign.progress.total)} are left.`;
    case "cancel":
      return `Nothing more of it is requested, for good: ${formatCount(left)} of ${formatCount(campaign.progress.total)} are not made by it. What runs goes on to its end.`;
  }
}

export function CampaignActions({ campaign, done }: { campaign: Campaign; done: () => void }) {
  return (
    <div class="row noprint">
      {COMMANDS[campaign.state].map((command) => {
        const label = command[0]?.toUpperCase() + command.slice(1);
        return (
          <Action
            key={command}
            label={label}
            name={`${label} campaign ${campaign.number}`}
            done={done}
            asked={{
              title: `${label} campaign ${campaign.number}${campaign.name ? `, ${campaign.name}` : ""}`,
              effect: effectOf(command, campaign),
              withReason: command !== "start",
              isDangerous: command === "cancel",
              run: (reason) =>
                order("POST", `/campaigns/${campaign.number}/${command}`, {
                  reason: reason || null,
                }),
            }}
          />
        );
      })}
    </div>
  );
}

export function CampaignProgress({ campaign }: { campaign: Campaign }) {
  const { done, total } = campaign.progress;
  return (
    <div class="row" style={{ flexWrap: "nowrap" }}>
      <div
        class="progress"
        style={{ flex: 1 }}
        role="progressbar"
        aria-label={`Campaign ${campaign.number}`}
        aria-valuemin={0}
        aria-valuemax={total}
        aria-valuenow={done}
      >
        <i style={{ width: `${total > 0 ? (100 * done) / total : 0}%` }} />
      </div>
      <span style={{ whiteSpace: "nowrap" }}>
        {formatCount(done)} of {formatCount(total)}
      </span>
    </div>
  );
}

/** What a campaign is about, in one line. */
export function aboutOf({ selection }: Campaign): string {
  const products = selection.products.join(", ") || "no product";
  const observations =
    selection.names !== null
      ? `${formatCount(selection.names)} observations`
      : selection.patterns.length > 0
        ? selection.patterns.join(", ")
        : "all observations";
  const scope = selection.scope === "all" ? "" : `, only ${selection.scope}`;
  return `${products} of ${observations}${scope}`;
}
