// Placing holds, and releasing them after it was shown what that starts.
import { useRef } from "preact/hooks";
import { conductor, order } from "../api";
import { plural } from "../format";
import type { Hold } from "../records";
import { Action } from "./actions";
import { counted, Preview, previewOf, type SetFilters } from "./set_orders";

export interface Scope {
  provider?: string;
  product?: string;
  obs_id?: string;
  class?: string;
  campaign?: number;
}

interface HoldProps {
  scope: Scope;
  what: string;
  /** From when on, as REST takes it; undefined: at once. */
  from?: string | undefined;
  label?: string;
  done: () => void;
}

export function HoldAction({ scope, what, from, label = "Hold", done }: HoldProps) {
  const isAll = Object.keys(scope).length === 0;
  return (
    <Action
      label={label}
      name={`Hold ${what}`}
      done={done}
      asked={{
        title: `Hold ${what}`,
        effect: `Nothing more of it is asked of a pipeline ${
          from ? `from ${from.replace("T", " ").replace("Z", " UTC")} on` : "from now on"
        }, until it is released. What runs goes on to its end.`,
        withReason: true,
        preview: async () => {
          const filters: SetFilters = isAll ? { product: "*" } : scope;
          const found = await previewOf("reprioritize", filters);
          return (
            <>
              <p>To be made now:</p>
              <Preview found={found} />
            </>
          );
        },
        run: (reason) =>
          order("POST", "/holds", { ...scope, from: from ?? null, reason: reason || null }),
      }}
    />
  );
}

interface ReleasePreview {
  starts: number;
  products: Record<string, number>;
  classes: Record<string, number>;
  remains: number;
}

export function ReleaseAction({ hold, done }: { hold: Hold; done: () => void }) {
  const rate = useRef<HTMLInputElement>(null);
  return (
    <Action
      label="Release"
      name={`Release ${hold.what}`}
      done={done}
      asked={{
        title: `Release hold ${hold.number}: ${hold.what}`,
        effect: "What no other hold keeps back is let go, at once or at a rate.",
        withReason: true,
        preview: async () => {
          const found = await conductor<ReleasePreview>(`/holds/${hold.number}/preview`);
          return (
            <p>
              <b>{plural(found.starts, "processing")}</b> would start
              {found.starts > 0 && `: ${counted(found.products)} (${counted(found.classes)})`}
              {found.remains > 0 && `; other holds keep back ${found.remains} more`}
            </p>
          );
        },
        fields: (
          <label>
            Rate, if not at once{" "}
            <input ref={rate} placeholder="10/min" pattern="\s*\d+(\.\d+)?\s*/\s*(s|min|h|d)\s*" />
          </label>
        ),
        run: (reason) =>
          order("POST", `/holds/${hold.number}/release`, {
            rate: rate.current?.value.trim() || null,
            reason: reason || null,
          }),
      }}
    />
  );
}
