// One stream for all tabs of a browser: HTTP/1.1 allows six connections to a host.
/// <reference lib="webworker" />
import type { Changes, WorkerMessage } from "./types";

declare const self: SharedWorkerGlobalScope;

/** A tab in the background may run its timers once a minute only. */
const SILENT_MS = 150_000;

const ports = new Map<MessagePort, number>();
let values: Changes | null = null;
let source: EventSource | null = null;
let isDown = false;

function send(message: WorkerMessage): void {
  const now = Date.now();
  for (const [port, heard] of ports) {
    if (now - heard > SILENT_MS) ports.delete(port);
    else port.postMessage(message);
  }
  if (ports.size === 0) close();
}

function close(): void {
  source?.close();
  source = null;
  values = null;
}

function open(): void {
  close();
  isDown = false;
  const opened = new EventSource("/stream");
  source = opened;
  opened.addEventListener("snapshot", (event) => {
    values = JSON.parse((event as MessageEvent<string>).data) as Changes;
    isDown = false;
    send({ kind: "snapshot", values });
  });
  opened.addEventListener("frame", (event) => {
    const changes = JSON.parse((event as MessageEvent<string>).data) as Changes;
    if (values !== null) {
      for (const [key, value] of Object.entries(changes)) {
        if (value === null) delete values[key];
        else values[key] = value;
      }
    }
    isDown = false;
    send({ kind: "frame", changes });
  });
  opened.addEventListener("tick", () => {
    isDown = false;
    send({ kind: "tick" });
  });
  opened.addEventListener("error", () => {
    // A browser connects again by itself, unless it was refused.
    const refused = opened.readyState === EventSource.CLOSED;
    isDown = true;
    send({ kind: "down", refused });
    if (refused) source = null;
  });
}

/** Let a tab follow: a new one, or one that was silent for so long that it was left out. */
function join(port: MessagePort): void {
  ports.set(port, Date.now());
  if (source === null) open();
  else if (values !== null) port.postMessage({ kind: "snapshot", values } satisfies WorkerMessage);
  if (isDown) port.postMessage({ kind: "down", refused: source === null } satisfies WorkerMessage);
}

self.addEventListener("connect", (event) => {
  const port = event.ports[0];
  if (port === undefined) return;
  port.addEventListener("message", (message: MessageEvent<string>) => {
    if (message.data === "leave") ports.delete(port);
    else if (!ports.has(port)) join(port);
    else ports.set(port, Date.now());
    if (message.data === "open" && source === null) open();
    if (ports.size === 0) close();
  });
  port.start();
  join(port);
});
