// What is asked of the conductor and of the sdb, by way of the dashboard.
import { signal } from "@preact/signals";
import { operator } from "./settings";

export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    /** Each mistake of what was given, where there may be several. */
    readonly problems: readonly string[] = [],
  ) {
    super(message);
  }
}

/** What a token may be for. */
export type Scope = "read" | "import" | "operate" | "administer";

interface SessionState {
  needed: boolean;
  signed_in: boolean;
  may: Scope[];
}

/** What the token that was shown is for; nothing before that is known. */
export const scopes = signal<readonly Scope[]>([]);

/** Ask, or change, who has signed in; it is known then what may be done. */
export async function session(method: "GET" | "POST", body?: unknown): Promise<SessionState> {
  const state = await call<SessionState>(method, "/session", body);
  scopes.value = state.may;
  return state;
}

/** Whether somebody must sign in before anything is answered. */
export const mustSignIn = signal(false);

export async function call<T>(method: string, url: string, body?: unknown): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (operator.value) headers["Batuta-Operator"] = operator.value;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(url, {
      method,
      headers,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch (error) {
    throw new ApiError(`the dashboard does not answer: ${(error as Error).message}`, 0);
  }
  const text = await response.text();
  if (response.ok) return (text ? JSON.parse(text) : null) as T;
  if (response.status === 401) mustSignIn.value = true;
  let problem: { detail?: string; problems?: string[] } = {};
  try {
    problem = JSON.parse(text) as typeof problem;
  } catch {
    // Not a problem in JSON: its status says what there is to say.
  }
  const detail = problem.detail ?? `${response.status} ${response.statusText}`;
  throw new ApiError(detail, response.status, problem.problems ?? []);
}

export const conductor = <T>(path: string) => call<T>("GET", `/api/conductor${path}`);
export const sdb = <T>(path: string) => call<T>("GET", `/api/sdb${path}`);
export const order = <T>(method: string, path: string, body?: unknown) =>
  call<T>(method, `/api/conductor${path}`, body);

export interface Page<T> {
  items: T[];
  next: string | number | null;
}

export function withQuery(path: string, query: Record<string, string | number | undefined | null>) {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") given.set(name, String(value));
  }
  const text = given.toString();
  return text ? `${path}?${text}` : path;
}
