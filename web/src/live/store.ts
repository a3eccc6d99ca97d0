// All that is live, as the page has it.
import { batch, computed, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import type { Asked, Changes, LiveGraph, Observation, Run, Service, WorkerMessage } from "./types";

/** What is older than this is not shown as if it were the present. */
export const STALE_MS = 3000;

export const observations = new Map<string, Observation>();
export const runs = new Map<string, Run>();
export const services = new Map<string, Service>();
/** Counts the changes of the maps above, which are too large to be copied at each. */
export const observationsChanged = signal(0);
export const runsChanged = signal(0);
export const servicesChanged = signal(0);

const others = new Map<string, Signal<unknown>>();

/** Return the live value of a key that is none of the maps above. */
export function live<T>(key: string): ReadonlySignal<T | undefined> {
  let found = others.get(key);
  if (found === undefined) {
    found = signal<unknown>(undefined);
    others.set(key, found);
  }
  return found as ReadonlySignal<T | undefined>;
}

export const graph = live<LiveGraph>("graph");
/** All inputs and products, in the order of the letters of observations. */
export const names = computed(() => (graph.value?.levels ?? []).flat());

export type Connection = "connecting" | "live" | "down" | "refused";
export const connection = signal<Connection>("connecting");
/** The time of this browser, in ms since 1970, when something last came. */
export const heardAt = signal(0);
/** The time of this browser, in ms since 1970, read twice a second. */
export const now = signal(Date.now());

/** Whether nothing comes from the dashboard. */
export const isCutOff = computed(
  () => connection.value !== "live" || now.value - heardAt.value > STALE_MS,
);

/** What the dashboard itself lives on, by the key of what it tells of them. */
const SOURCES = { nats: "NATS", conductor: "the conductor" };

interface Lack extends Asked {
  source: string;
}

/** The source that the dashboard hears nothing from: without NATS, nothing else matters. */
export const lack = computed<Lack | undefined>(() => {
  for (const [key, source] of Object.entries(SOURCES)) {
    const asked = live<Asked>(`asked/${key}`).value;
    if (asked?.problem) return { source, ...asked };
  }
  return undefined;
});

/** Whether what is shown is of the past. */
export const isStale = computed(() => isCutOff.value || lack.value !== undefined);

function setAll(values: Changes): void {
  observations.clear();
  runs.clear();
  services.clear();
  for (const [key, found] of others) if (!(key in values)) found.value = undefined;
  applyChanges(values);
  // Those that are gone are in no snapshot.
  for (const changed of [observationsChanged, runsChanged, servicesChanged]) changed.value += 1;
}

function applyChanges(changes: Changes): void {
  let changed = 0;
  let changedRuns = 0;
  let changedServices = 0;
  for (const [key, value] of Object.entries(changes)) {
    if (key.startsWith("obs/")) {
      const name = key.slice(4);
      // The one that changed last is the last.
      observations.delete(name);
      if (value !== null) observations.set(name, value as Observation);
      changed += 1;
    } else if (key.startsWith("run/")) {
      if (value === null) runs.delete(key.slice(4));
      else runs.set(key.slice(4), value as Run);
      changedRuns += 1;
    } else if (key.startsWith("service/")) {
      if (value === null) services.delete(key.slice(8));
      else services.set(key.slice(8), value as Service);
      changedServices += 1;
    } else {
      (live(key) as Signal<unknown>).value = value ?? undefined;
    }
  }
  if (changed > 0) observationsChanged.value += 1;
  if (changedRuns > 0) runsChanged.value += 1;
  if (changedServices > 0) servicesChanged.value += 1;
}

function receive(message: WorkerMessage): void {
  batch(() => {
    if (message.kind === "down") {
      connection.value = message.refused ? "refused" : "down";
      return;
    }
    heardAt.value = Date.now();
    now.value = heardAt.value;
    connection.value = "live";
    if (message.kind === "snapshot") setAll(message.values);
    else if (message.kind === "frame") applyChanges(message.changes);
  });
}

let port: MessagePort | null = null;

/** Follow the stream, shared with the other tabs where the browser can. */
export function follow(): void {
  setInterval(() => {
    now.value = Date.now();
  }, 500);
  if ("SharedWorker" in globalThis) {
    const worker = new SharedWorker("/stream.js", { type: "module", name: "batuta" });
    port = worker.port;
    port.addEventListener("message", (event: MessageEvent<WorkerMessage>) => receive(event.data));
    port.start();
    setInterval(() => port?.postMessage("alive"), 5000);
    addEventListener("pagehide", () => port?.postMessage("leave"));
    addEventListener("pageshow", (event) => {
      if ((event as PageTransitionEvent).persisted) location.reload();
    });
  } else {
    openDirectly();
  }
}

function openDirectly(): void {
  const source = new EventSource("/stream");
  const parsed = (event: Event) => JSON.parse((event as MessageEvent<string>).data) as Changes;
  source.addEventListener("snapshot", (event) =>
    receive({ kind: "snapshot", values: parsed(event) }),
  );
  source.addEventListener("frame", (event) => receive({ kind: "frame", changes: parsed(event) }));
  source.addEventListener("tick", () => receive({ kind: "tick" }));
  source.addEventListener("error", () =>
    receive({ kind: "down", refused: source.readyState === EventSource.CLOSED }),
  );
}

/** Connect again, after having signed in. */
export function reconnect(): void {
  connection.value = "connecting";
  if (port === null) openDirectly();
  else port.postMessage("open");
}
