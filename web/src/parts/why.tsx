// Why a product was, or was not, made: as the conductor tells it, in both directions.
import { conductor } from "../api";
import type { Processing } from "../records";
import { address } from "../router";
import { Show, useLoaded } from "./loaded";
import { Time } from "./time";

export interface Moment {
  time: string;
  what: string;
  by: string;
  event: string | null;
  processing: string | null;
}

export interface WhyAnswer {
  product: string;
  obs_id: string;
  answer: string;
  lacks: string[];
  stale: string | null;
  needs: string[];
  words: string[];
  circuits: string[];
  history: Moment[];
  triggers: { product: string; available: boolean; lacks: string[] }[];
  available: Record<string, number>;
  processings: Processing[];
}

export function Why({
  product,
  obsId,
  changes,
}: {
  product: string;
  obsId: string;
  /** Asked again whenever this changes. */
  changes: string;
}) {
  const path = `/why/${encodeURIComponent(product)}/${encodeURIComponent(obsId)}`;
  const loaded = useLoaded(path, () => conductor<WhyAnswer>(path), 0, changes);
  return (
    <section class="card" aria-label={`Why ${product}`}>
      <h2>Why {product}</h2>
      <Show loaded={loaded}>
        {(why) => (
          <div class="stack">
            <div>
              {beforeHistory(why.words).map((line) => (
                <div key={line} style={{ whiteSpace: "pre-wrap", overflowWrap: "anywhere" }}>
                  {line}
                </div>
              ))}
            </div>
            {why.triggers.length > 0 && (
              <div class="prose">
                <span class="quiet">What is made from it: </span>
                {why.triggers.map((each, rank) => (
                  <span key={each.product}>
                    {rank > 0 && ", "}
                    <a
                      href={`${address("observations", obsId)}?product=${encodeURIComponent(each.product)}`}
                    >
                      {each.product}
                    </a>
                    {each.available
                      ? " (available)"
                      : each.lacks.length > 0
                        ? ` (lacks ${each.lacks.join(", ")})`
                        : ""}
                  </span>
                ))}
              </div>
            )}
            <details>
              <summary>What happened ({why.history.length})</summary>
              <table>
                <tbody>
                  {why.history.map((moment) => (
                    <tr key={`${moment.time} ${moment.what}`}>
                      <td class="mono">
                        <Time at={moment.time} />
                      </td>
                      <td>{moment.what}</td>
                      <td class="quiet">{moment.by}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </details>
          </div>
        )}
      </Show>
    </section>
  );
}

/** The history is told below, as a table. */
export function beforeHistory(words: string[]): string[] {
  const end = words.findIndex((line) => line.startsWith("what happened"));
  return end < 0 ? words : words.slice(0, end);
}
