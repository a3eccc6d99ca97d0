// What operators have ordered: who, when, what and why.
import { formatCount } from "../format";
import { asTime, given, TextFilter, TimeFilter } from "../parts/filters";
import { List, usePaged } from "../parts/paged";
import { Time } from "../parts/time";
import type { OrderRecord } from "../records";

const COMMANDS = [
  "approve",
  "campaign plan",
  "cancel",
  "graph apply",
  "hold",
  "make",
  "providers --close",
  "refuse",
  "release",
  "reprioritize",
  "retry",
] as const;

export function Orders() {
  const paged = usePaged<OrderRecord>(
    "/orders",
    {
      command: given("command"),
      operator: given("operator"),
      since: asTime(given("since")),
      until: asTime(given("until")),
      limit: 100,
    },
    5000,
  );
  return (
    <div class="page stack">
      <h1>Orders</h1>
      <div class="row">
        <TextFilter name="command" label="Command" names={COMMANDS} />
        <TextFilter name="operator" label="Operator" />
        <TimeFilter name="since" label="From" />
        <TimeFilter name="until" label="Until" />
      </div>
      <List paged={paged} empty="Nothing like that was ordered. Each order is recorded for good.">
        {(items) => (
          <div class="scroll">
            <table>
              <thead>
                <tr>
                  <th class="number">Order</th>
                  <th>Given (UTC)</th>
                  <th>By</th>
                  <th>Command</th>
                  <th>About</th>
                  <th class="number">Changed</th>
                  <th>Ended (UTC)</th>
                  <th>Why</th>
                </tr>
              </thead>
              <tbody>
                {items.map((each) => (
                  <tr key={each.number}>
                    <td class="number">{each.number}</td>
                    <td class="mono">
                      <Time at={each.time} />
                    </td>
                    <td>{each.by}</td>
                    <td>{each.command}</td>
                    <td class="error-text">{aboutOf(each.about)}</td>
                    <td class="number">
                      {formatCount(each.changed)}
                      {each.selected > 1 && ` of ${formatCount(each.selected)}`}
                    </td>
                    <td class="mono">{each.ended ? <Time at={each.ended} /> : "goes on"}</td>
                    <td class="error-text">
                      {each.reason}
                      {each.problem && <div class="problem">{each.problem}</div>}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </List>
    </div>
  );
}

const TIMES = new Set(["since", "until", "from", "begins"]);

function aboutOf(about: Record<string, unknown>): string {
  return Object.entries(about)
    .filter(([, value]) => value !== null && !(Array.isArray(value) && value.length === 0))
    .map(([name, value]) => `${name.replaceAll("_", " ")} ${textOf(name, value)}`)
    .join(", ");
}

function textOf(name: string, value: unknown): string {
  if (TIMES.has(name) && typeof value === "number") {
    return `${new Date(value * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;
  }
  if (Array.isArray(value)) return value.join(" or ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
