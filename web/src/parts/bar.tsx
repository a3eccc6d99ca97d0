// The bar: the places, and how much waits for somebody in each.
import { useEffect, useRef } from "preact/hooks";
import { formatCount, formatTime } from "../format";
import { live, now } from "../live/store";
import type { Summary } from "../live/types";
import type { Hold, Provider } from "../records";
import { path } from "../router";
import { theme } from "../settings";

interface Place {
  target: string;
  label: string;
  /** What waits there for somebody; 0 for nothing. */
  count?: () => number;
  /** Said of the number. */
  what?: string;
  /** Whether it is no alarm. */
  isCalm?: boolean;
}

const summary = live<Summary & { to_approve?: number }>("summary");
const holds = live<{ items: Hold[] }>("holds");
const dead = live<{ total: number }>("dead");
const late = live<{ total: number }>("late");
const providers = live<{ items: Provider[] }>("providers");
const campaigns = live<{ items: { state: string }[] }>("campaigns");

export function openCircuits(found: readonly Provider[]): number {
  return found.flatMap((each) => each.instances).filter((each) => each.circuit !== "closed").length;
}

const OFTEN: readonly Place[] = [
  { target: "/observations", label: "Observations" },
  { target: "/wall", label: "Wall" },
  {
    target: "/inbox",
    label: "Inbox",
    count: () => (summary.value?.processings.failed ?? 0) + (late.value?.total ?? 0),
    what: "failed or late",
  },
  {
    target: "/approvals",
    label: "Approvals",
    count: () => summary.value?.to_approve ?? 0,
    what: "to approve",
  },
  {
    target: "/holds",
    label: "Holds",
    count: () => holds.value?.items.length ?? 0,
    what: "in force or to come",
    isCalm: true,
  },
  {
    target: "/campaigns",
    label: "Campaigns",
    count: () =>
      campaigns.value?.items.filter((each) => ["running", "paused"].includes(each.state)).length ??
      0,
    what: "running or paused",
    isCalm: true,
  },
];
const SELDOM: readonly Place[] = [
  { target: "/events", label: "Events" },
  {
    target: "/dead",
    label: "Dead letters",
    count: () => dead.value?.total ?? 0,
    what: "not understood",
  },
  { target: "/orders", label: "Orders" },
  { target: "/report", label: "Report" },
  {
    target: "/providers",
    label: "Providers",
    count: () => openCircuits(providers.value?.items ?? []),
    what: "left alone",
  },
  { target: "/graph", label: "Graph" },
];

export const PLACES: readonly Place[] = [...OFTEN, ...SELDOM, { target: "/help", label: "Help" }];

function isHere(place: Place): boolean {
  return path.value === place.target || path.value.startsWith(`${place.target}/`);
}

function Badge({ count, what, isCalm }: { count: number; what: string; isCalm?: boolean }) {
  if (count === 0) return null;
  return (
    <>
      {" "}
      <span class={isCalm ? "badge calm" : "badge"} title={`${formatCount(count)} ${what}`}>
        {count > 9999 ? "9999+" : count}
        <span class="visually-hidden"> {what}</span>
      </span>
    </>
  );
}

function PlaceLink({ place }: { place: Place }) {
  const current = isHere(place) ? { "aria-current": "page" as const } : {};
  return (
    <a href={place.target} {...current}>
      {place.label}
      <Badge count={place.count?.() ?? 0} what={place.what ?? ""} isCalm={place.isCalm ?? false} />
    </a>
  );
}

function More() {
  const menu = useRef<HTMLDetailsElement>(null);
  const close = () => {
    if (menu.current) menu.current.open = false;
  };
  useEffect(close, [path.value]);
  useEffect(() => {
    const outside = (event: Event) => {
      if (!menu.current?.contains(event.target as Node)) close();
    };
    document.addEventListener("click", outside);
    return () => document.removeEventListener("click", outside);
  }, []);
  const waiting = SELDOM.reduce((sum, place) => sum + (place.count?.() ?? 0), 0);
  return (
    <details
      class="menu"
      ref={menu}
      onKeyDown={(event) => {
        if (event.key !== "Escape") return;
        close();
        menu.current?.querySelector("summary")?.focus();
      }}
    >
      <summary class={SELDOM.some(isHere) ? "current" : ""}>
        More
        <Badge count={waiting} what="to look at" />
      </summary>
      <div>
        {SELDOM.map((place) => (
          <PlaceLink key={place.target} place={place} />
        ))}
      </div>
    </details>
  );
}

export function Bar() {
  return (
    <header class="bar">
      <a class="brand" href="/observations">
        <img src="/icon.svg" alt="" width="22" height="22" /> Batuta
      </a>
      <nav aria-label="Pages">
        {OFTEN.map((place) => (
          <PlaceLink key={place.target} place={place} />
        ))}
        <More />
      </nav>
      <div class="right">
        <time title={`${new Date(now.value).toLocaleTimeString()} local time`}>
          {formatTime(now.value / 1000)} UTC
        </time>
        <select
          aria-label="Colours"
          value={theme.value}
          onChange={(event) => {
            theme.value = event.currentTarget.value as typeof theme.value;
          }}
        >
          <option value="system">as the system</option>
          <option value="light">light</option>
          <option value="dark">dark</option>
        </select>
        <a href="/help">Help</a>
      </div>
    </header>
  );
}
