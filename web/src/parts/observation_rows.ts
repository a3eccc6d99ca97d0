// Which observations are listed, in which order, and in which groups.
import { formatCount } from "../format";
import { observations } from "../live/store";
import type { MatrixRow } from "./matrix_painter";

export const ORDERS = {
  newest: "heard of last",
  name: "by name",
  failed: "most failures first",
  progress: "least complete first",
} as const;
export type Order = keyof typeof ORDERS;

export const GROUPINGS = {
  state: "by what needs most attention",
  name: "by the beginning of the name",
  day: "by the day of the last news (UTC)",
} as const;
export type Grouping = keyof typeof GROUPINGS;

function lettersOf(name: string): string {
  return observations.get(name)?.s ?? "";
}

export function sorted(found: string[], order: Order): string[] {
  if (order === "newest") return found.reverse();
  if (order === "name") return found.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const wanted = order === "failed" ? /F/g : /[AS]/g;
  const sign = order === "failed" ? -1 : 1;
  const by = new Map(
    found.map((name) => [name, sign * (lettersOf(name).match(wanted)?.length ?? 0)]),
  );
  return found.sort((a, b) => (by.get(a) ?? 0) - (by.get(b) ?? 0));
}

/** By the states of their products, as letters: the first that is found counts. */
const ATTENTION: readonly [string, RegExp][] = [
  ["failed", /F/],
  ["tried again", /t/],
  ["to be approved", /u/],
  ["held", /h/],
  ["being made", /[Rqr]/],
  ["waiting", /w/],
  ["stale", /S/],
  ["at rest", /^/],
];

function groupOf(name: string, grouping: Grouping): string {
  if (grouping === "state") {
    return ATTENTION.find(([, letters]) => letters.test(lettersOf(name)))?.[0] ?? "";
  }
  // Up to the number that tells one from another.
  if (grouping === "name") return name.match(/^[^\d\s._:/-]+/)?.[0] ?? "(a number)";
  return new Date(1000 * (observations.get(name)?.t ?? 0)).toISOString().slice(0, 10);
}

function inOrder(groups: string[], grouping: Grouping): string[] {
  if (grouping === "state") {
    const rank = new Map(ATTENTION.map(([group], place) => [group, place]));
    return groups.sort((a, b) => (rank.get(a) ?? 0) - (rank.get(b) ?? 0));
  }
  groups.sort((a, b) => a.localeCompare(b, "en"));
  return grouping === "day" ? groups.reverse() : groups;
}

/** Put observations under the headings of their groups; those that are closed show no more. */
export function grouped(
  found: readonly string[],
  grouping: Grouping,
  closed: ReadonlySet<string>,
): MatrixRow[] {
  const members = new Map<string, string[]>();
  for (const name of found) {
    const group = groupOf(name, grouping);
    const listed = members.get(group);
    if (listed) listed.push(name);
    else members.set(group, [name]);
  }
  return inOrder([...members.keys()], grouping).flatMap((group): MatrixRow[] => {
    const names = members.get(group) ?? [];
    const isClosed = closed.has(group);
    const title = `${isClosed ? "▸" : "▾"} ${group}: ${formatCount(names.length)}`;
    return [{ group, title }, ...(isClosed ? [] : names)];
  });
}
