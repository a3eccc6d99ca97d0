// One processing: its progress, its log as it grows, and what an operator may do about it.
import { useEffect, useRef, useState } from "preact/hooks";
import { conductor } from "../api";
import { formatDuration, secondsOf } from "../format";
import { runs, runsChanged } from "../live/store";
import { Show, useLoaded } from "../parts/loaded";
import { StateLabel } from "../parts/mark";
import { TileView } from "../parts/tile_grid";
import { Time } from "../parts/time";
import { ReprioritizeAction } from "../parts/urgency";
import type { Processing } from "../records";
import { canBeRetried, hasEnded, isToBeMade } from "../records";
import { address } from "../router";
import { CancelAction, RetryAction } from "./observation";

export function ProcessingPage({ id }: { id: string }) {
  runsChanged.value;
  const run = runs.get(id);
  const path = address("processings", id);
  const loaded = useLoaded(path, () => conductor<Processing>(path), 5000, run?.state);
  return (
    <div class="page stack">
      <Show loaded={loaded}>
        {(processing) => (
          <>
            <div class="spread">
              <h1>
                <a href={address("observations", processing.obs_id)}>{processing.obs_id}</a> /{" "}
                <a
                  href={`${address("observations", processing.obs_id)}?product=${encodeURIComponent(processing.product)}`}
                >
                  {processing.product}
                </a>
              </h1>
              <div class="row noprint">
                {isToBeMade(processing) && (
                  <ReprioritizeAction processing={processing} done={loaded.reload} />
                )}
                {!hasEnded(processing) && (
                  <CancelAction processing={processing} done={loaded.reload} />
                )}
                {canBeRetried(processing) && (
                  <RetryAction processing={processing} done={loaded.reload} />
                )}
              </div>
            </div>
            <Facts processing={processing} />
            <Tiles
              processing={processing}
              done={run?.done ?? processing.progress.done}
              total={run?.total ?? processing.progress.total}
            />
            {processing.error && (
              <section class="card">
                <h2>What went wrong</h2>
                <pre>{processing.error}</pre>
              </section>
            )}
            <Log processing={processing} />
          </>
        )}
      </Show>
    </div>
  );
}

function Facts({ processing }: { processing: Processing }) {
  const inputs = Object.entries(processing.inputs)
    .map(([name, version]) => (version ? `${name} v${version}` : name))
    .join(", ");
  const took =
    processing.started &&
    formatDuration(
      (processing.ended ? secondsOf(processing.ended) : Date.now() / 1000) -
        secondsOf(processing.started),
    );
  return (
    <section class="card">
      <dl class="pairs">
        <dt>State</dt>
        <dd>
          <StateLabel name={processing.state} />
        </dd>
        <dt>Attempt</dt>
        <dd>
          {processing.attempt} of {processing.max_attempts}
          {processing.next_attempt && (
            <>
              , the next at <Time at={processing.next_attempt} />
            </>
          )}
        </dd>
        <dt>Provider</dt>
        <dd>{processing.provider}</dd>
        <dt>Class, priority</dt>
        <dd>
          {processing.class}, {processing.priority}
        </dd>
        <dt>Made from</dt>
        <dd>{inputs || "-"}</dd>
        <dt>Claimed, UTC</dt>
        <dd class="mono">
          <Time at={processing.created} />
        </dd>
        <dt>Started, UTC</dt>
        <dd class="mono">
          <Time at={processing.started} /> {took && <span class="quiet">({took})</span>}
        </dd>
        <dt>Ended, UTC</dt>
        <dd class="mono">
          <Time at={processing.ended} />
        </dd>
        <dt>Code, graph</dt>
        <dd>
          {processing.code ?? "-"}, version {processing.graph_version ?? "-"}
        </dd>
        {processing.campaign !== null && (
          <>
            <dt>Campaign</dt>
            <dd>
              <a href={address("campaigns", String(processing.campaign))}>{processing.campaign}</a>
            </dd>
          </>
        )}
        {processing.profile && (
          <>
            <dt>Profile</dt>
            <dd>
              <a href={processing.profile} target="_blank" rel="noreferrer">
                where time and memory went
              </a>
            </dd>
          </>
        )}
      </dl>
    </section>
  );
}

function Tiles({
  processing,
  done,
  total,
}: {
  processing: Processing;
  done: number;
  total: number;
}) {
  if (total === 0) return null;
  return (
    <section class="card">
      <h2>Tiles</h2>
      <div class="row">
        <div
          class="progress"
          style={{ flex: 1 }}
          role="progressbar"
          aria-label="Tiles done"
          aria-valuemin={0}
          aria-valuemax={total}
          aria-valuenow={done}
        >
          <i style={{ width: `${(100 * done) / total}%` }} />
        </div>
        <span>
          {done} of {total}
        </span>
      </div>
      {processing.requested !== null && (
        <TileView
          key={`${processing.id} ${processing.attempt}`}
          id={processing.id}
          isOver={hasEnded(processing)}
        />
      )}
    </section>
  );
}

/** Characters of a log that are kept in the page: its end. */
const MAX_LOG = 400_000;
const LOG_MS = 2000;

function Log({ processing }: { processing: Processing }) {
  const [text, setText] = useState("");
  const [problem, setProblem] = useState<string>();
  const box = useRef<HTMLPreElement>(null);
  const isOver = hasEnded(processing);
  const url = `/api/conductor/processings/${encodeURIComponent(processing.id)}/log`;
  useEffect(() => {
    let isCurrent = true;
    const ask = async () => {
      try {
        const response = await fetch(url);
        const body = await response.text();
        if (!isCurrent) return;
        if (response.ok) {
          setText(body.slice(-MAX_LOG));
          setProblem(undefined);
        } else {
          setProblem((JSON.parse(body) as { detail: string }).detail);
        }
      } catch (error) {
        if (isCurrent) setProblem((error as Error).message);
      }
    };
    ask();
    const timer = isOver ? undefined : setInterval(ask, LOG_MS);
    return () => {
      isCurrent = false;
      clearInterval(timer);
    };
  }, [url, isOver]);
  useEffect(() => {
    const element = box.current;
    if (element && element.scrollHeight - element.scrollTop - element.clientHeight < 200) {
      element.scrollTop = element.scrollHeight;
    }
  }, [text]);
  if (processing.requested === null) return null;
  return (
    <section class="card">
      <h2>Log{isOver ? "" : ", as it grows"}</h2>
      {problem && <p class="problem">{problem}</p>}
      {text ? (
        <pre class="log" ref={box} tabIndex={0}>
          {text}
        </pre>
      ) : (
        !problem && <p class="quiet">Nothing was logged.</p>
      )}
    </section>
  );
}
