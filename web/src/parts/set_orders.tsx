// Orders for many processings at once: counted before, followed to their end.
import type { ComponentChildren } from "preact";
import { useRef } from "preact/hooks";
import { conductor, order } from "../api";
import { formatCount, plural } from "../format";
import type { OrderRecord, Processing } from "../records";
import { address } from "../router";
import { Action } from "./actions";

export interface SetFilters {
  provider?: string;
  product?: string;
  obs_id?: string;
  error_kind?: string;
  campaign?: number;
  class?: string;
  state?: string[];
}

interface SetPreview {
  at: string;
  total: number;
  by_state: Record<string, number>;
  by_product: Record<string, number>;
  items: Processing[];
}

interface Props {
  label: string;
  name: string;
  command: "retry" | "cancel" | "reprioritize";
  filters: SetFilters;
  title: string;
  effect: string;
  /** What is to be given besides, and reads it when it is confirmed. */
  fields?: ComponentChildren;
  more?: () => object;
  done: () => void;
}

const POLL_MS = 250;
const FOLLOWED_MS = 15_000;

export function SetOrderAction(props: Props) {
  const { label, name, command, filters, title, effect, fields, more, done } = props;
  const until = useRef<string | undefined>(undefined);
  return (
    <Action
      label={label}
      name={name}
      done={done}
      asked={{
        title,
        effect,
        fields,
        withReason: true,
        isDangerous: command === "cancel",
        preview: async () => {
          const found = await previewOf(command, filters);
          // What comes after it was counted is not meant.
          until.current = found.at;
          return <Preview found={found} />;
        },
        run: async (reason) => {
          const given = await order<OrderRecord>("POST", "/orders", {
            command,
            filters: { ...filters, until: until.current },
            reason: reason || null,
            ...more?.(),
          });
          await followed(given);
        },
      }}
    />
  );
}

export function previewOf(command: string, filters: SetFilters): Promise<SetPreview> {
  return order<SetPreview>("POST", "/orders/preview", { command, filters });
}

/** Wait for the end of an order; what is not carried out in time goes on, and is in the orders. */
async function followed(given: OrderRecord): Promise<void> {
  let record = given;
  const end = Date.now() + FOLLOWED_MS;
  while (record.ended === null && Date.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    record = await conductor<OrderRecord>(`/orders/${record.number}`);
  }
  if (record.problem) throw new Error(record.problem);
}

const SHOWN = 5;

export function Preview({ found }: { found: SetPreview }) {
  return (
    <div>
      <p>
        <b>{plural(found.total, "processing")}</b>
        {found.total > 0 && `: ${counted(found.by_state)}`}
      </p>
      {found.total > 0 && (
        <>
          <p>{counted(found.by_product)}</p>
          <ul class="brief">
            {found.items.slice(0, SHOWN).map((each) => (
              <li key={each.id}>
                <a href={address("processings", each.id)} target="_blank" rel="noreferrer">
                  {each.product} of {each.obs_id}
                </a>
              </li>
            ))}
            {found.total > SHOWN && <li>and {formatCount(found.total - SHOWN)} more</li>}
          </ul>
        </>
      )}
    </div>
  );
}

/** Numbers by name, in one line, the largest first. */
export function counted(numbers: Record<string, number>): string {
  return Object.entries(numbers)
    .sort((a, b) => b[1] - a[1])
    .map(([name, number]) => `${formatCount(number)} ${name}`)
    .join(", ");
}
