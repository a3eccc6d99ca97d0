// What the conductor and the sdb answer.

export interface Processing {
  id: string;
  product: string;
  obs_id: string;
  state: string;
  attempt: number;
  max_attempts: number;
  progress: { done: number; total: number };
  error: string | null;
  created: string;
  requested: string | null;
  started: string | null;
  ended: string | null;
  provider: string;
  inputs: Record<string, number>;
  next_attempt: string | null;
  log: string | null;
  profile: string | null;
  code: string | null;
  class: string;
  priority: number;
  graph_version: number | null;
  held_by: number | null;
  campaign: number | null;
  by_hand: boolean;
  stale_since: string | null;
  stale_because: string | null;
}

export interface ProductState {
  product: string;
  state: string;
  version: number | null;
  lacks: string[];
  stale: string | null;
  processing: Processing | null;
}

export interface ObservationDetail {
  obs_id: string;
  available: number;
  processings: Record<string, number>;
  last_news: string | null;
  products: ProductState[];
}

const ENDED = new Set(["succeeded", "failed", "cancelled"]);

export function hasEnded(processing: Processing): boolean {
  return ENDED.has(processing.state);
}

export function canBeRetried(processing: Processing): boolean {
  return ["failed", "cancelled", "retrying"].includes(processing.state);
}

const TO_BE_MADE = new Set(["unapproved", "waiting", "held", "retrying"]);

/** Whether it is still to be asked of its pipeline: another class or priority changes when. */
export function isToBeMade(processing: Processing): boolean {
  return TO_BE_MADE.has(processing.state);
}

export interface FailureGroup {
  provider: string;
  kind: string;
  failed: number;
  retrying: number;
  products: Record<string, number>;
  since: string;
  latest: string;
  example: string;
  error: string | null;
}

export interface OrderRecord {
  number: number;
  time: string;
  command: string;
  about: Record<string, unknown>;
  by: string;
  proved: boolean;
  reason: string | null;
  selected: number;
  changed: number;
  problem: string | null;
  ended: string | null;
}

export interface Approval {
  product: string;
  obs_id: string;
  gate: "before" | "after" | "late";
  version: string;
  since: string;
  processing: string | null;
  detail: string | null;
}

export interface Hold {
  number: number;
  provider: string | null;
  product: string | null;
  obs_id: string | null;
  class: string | null;
  campaign: number | null;
  pause: boolean;
  what: string;
  state: "scheduled" | "in force" | "releasing" | "released";
  since: string;
  by: string;
  reason: string | null;
  keeps: number;
  alone: number;
  rate: string | null;
}

export interface Instance {
  address: string;
  in_use: boolean;
  processings: number;
  circuit: "closed" | "open" | "half-open";
  since: string | null;
  retry_at: string | null;
  reason: string | null;
  full_until: string | null;
  lost: string | null;
}

export interface Provider {
  provider: string;
  max_concurrent: number | null;
  max_concurrent_per_instance: number | null;
  instances: Instance[];
}

export interface Late {
  product: string;
  obs_id: string;
  due: string;
  expires: string | null;
  state: string | null;
}

export const WORK_CLASSES = ["alert", "live", "reprocess", "backfill"] as const;

export interface CampaignPlan {
  looked_at: number;
  observations: number;
  processings: number;
  products: {
    product: string;
    provider: string;
    processings: number;
    lacking: number;
    mean_s: number | null;
  }[];
  providers: { provider: string; processings: number; at_once: number }[];
  estimate_s: number | null;
  without_record: string[];
  unknown: number;
  unknown_names: string[];
}

export interface Campaign {
  number: number;
  name: string | null;
  state: "planning" | "planned" | "running" | "paused" | "cancelling" | "cancelled" | "done";
  reason: string | null;
  selection: {
    products: string[];
    scope: string;
    downstream: boolean;
    new_graph: boolean;
    patterns: string[];
    names: number | null;
    since: string | null;
    until: string | null;
  };
  class: string;
  priority: number | null;
  max_concurrent: number;
  plan: CampaignPlan | null;
  progress: {
    total: number;
    done: number;
    made: number;
    failed: number;
    skipped: number;
    cancelled: number;
    open: number;
    awaiting: number;
  };
  created: string;
  started: string | null;
  ended: string | null;
  ran_s: number;
  estimated_end: string | null;
}

export interface CampaignReport {
  ended: string;
  ran_s: number;
  products: {
    product: string;
    provider: string;
    planned: number;
    made: number;
    failed: number;
    skipped: number;
    cancelled: number;
    not_begun: number;
    reasons: { state: string; reason: string; number: number; example: string }[];
  }[];
}

export interface CampaignItem {
  obs_id: string;
  product: string;
  state: string;
  reason: string | null;
  processing: string | null;
  at: string;
}

export interface EventRecord {
  id: string;
  source: string;
  sequence: number;
  received: string;
  product: string | null;
  obs_id: string | null;
  version: number | null;
  stage: string | number | null;
  outcome: "triggered" | "waiting" | "ignored";
  reason: string | null;
  triggered: Record<string, string>;
  waiting: Record<string, string[]>;
}

export interface EventDetail extends EventRecord {
  processings: Processing[];
  lacking: Record<string, string[]>;
  repeats: EventRecord[];
}

export interface DeadLetter {
  sequence: number;
  stored: string;
  subject: string;
  origin: number | null;
  reason: string;
  size: number;
  whole: boolean;
  excerpt: string;
}

export interface Resent {
  dead: number;
  subject: string | null;
  sequence: number | null;
  event: EventRecord | null;
  problem: string | null;
}

export interface GraphVersion {
  number: number;
  digest: string;
  applied: string;
  by: string;
  note: string | null;
  class: string | null;
  in_force: boolean;
  settled: string | null;
}

export interface GraphPreview {
  in_force: number;
  changes: {
    part: string;
    name: string;
    kind: string;
    key: string | null;
    old: unknown;
    new: unknown;
  }[];
  startable: string[];
  stale: string[];
  orphans: string[];
  counts: {
    observations: number;
    recorded: Record<string, number>;
    starts: Record<string, number>;
    follows: Record<string, number>;
    continues: Record<string, number>;
    set_aside: Record<string, number>;
    stale: Record<string, number>;
    orphans: Record<string, { available: number; set_aside: number; followed: number }>;
  };
}

/** One version of a product, as the sdb records it. */
export interface StoredProduct {
  product: string;
  obs_id: string;
  version: number;
  size: number;
  sha256: string;
  media_type: string;
  metadata: Record<string, unknown>;
  created: string;
  provider: string | null;
  processing_id: string | null;
  filename: string | null;
  inputs: { product: string; version: number }[];
  code: string | null;
  graph_version: string | null;
  withdrawn: string | null;
  withdrawn_reason: string | null;
  stage: string | number | null;
}

export interface Spread {
  number: number;
  median_s: number;
  p95_s: number;
}

/** What became of a product in a span of time. */
export interface ProductReport {
  provider: string;
  product: string;
  made: number;
  failed: number;
  still_failed: number;
  retried: number;
  cancelled: number;
  late: number;
  still_late: number;
  expired: number;
  approved: number;
  refused: number;
  waiting: number;
  held: number;
  latency: Spread | null;
  processing: Spread | null;
}

interface Listed<T> {
  total: number;
  items: T[];
}

export interface Report {
  from: string;
  to: string;
  asked: string;
  products: ProductReport[];
  total: ProductReport;
  answers: Listed<{
    time: string;
    verdict: string;
    product: string;
    obs_id: string;
    by: string;
    reason: string | null;
  }>;
  campaigns: Listed<{
    number: number;
    name: string | null;
    state: string;
    started: string;
    ended: string | null;
    made: number;
    failed: number;
    total: number;
  }>;
  circuits: Listed<{
    time: string;
    provider: string;
    instance: string;
    lost: boolean;
    reason: string | null;
    still: boolean;
  }>;
  holds: Listed<{
    number: number;
    what: string;
    placed: string;
    by: string;
    reason: string | null;
    released: string | null;
    released_by: string | null;
    release_reason: string | null;
  }>;
  dead_letters: number | null;
  dropped: number;
}

/** Minute by minute, the earliest first. */
export interface Rates {
  begin: string;
  asked: string;
  archived: number[];
  median_s: (number | null)[];
  p99_s: (number | null)[];
}
