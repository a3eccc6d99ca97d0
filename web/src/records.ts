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
