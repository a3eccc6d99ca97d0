// Another class or priority for what is to be made: of one processing, or of all that filters select.
import type { ComponentChildren } from "preact";
import { useRef } from "preact/hooks";
import { order } from "../api";
import { type Processing, WORK_CLASSES } from "../records";
import { Action } from "./actions";
import { type SetFilters, SetOrderAction } from "./set_orders";

/** As the conductor accepts it. */
const MAX_PRIORITY = 1_000_000;

interface Urgency {
  class?: string;
  priority?: number;
}

/** The fields of a question, and what was given in them. */
function useUrgency(current?: Processing): [ComponentChildren, () => Urgency] {
  const chosen = useRef<HTMLSelectElement>(null);
  const priority = useRef<HTMLInputElement>(null);
  const fields = (
    <div class="form">
      <label>
        Class{" "}
        <select ref={chosen}>
          <option value="">{current ? `as it is (${current.class})` : "as it is"}</option>
          {WORK_CLASSES.map((each) => (
            <option key={each}>{each}</option>
          ))}
        </select>
      </label>
      <label>
        Priority, the highest first{" "}
        <input
          ref={priority}
          type="number"
          step={1}
          min={-MAX_PRIORITY}
          max={MAX_PRIORITY}
          placeholder={current ? `as it is (${current.priority})` : "as it is"}
        />
      </label>
    </div>
  );
  const given = () => {
    const found: Urgency = {};
    if (chosen.current?.value) found.class = chosen.current.value;
    if (priority.current?.value) found.priority = Number(priority.current.value);
    if (Object.keys(found).length === 0) {
      throw new Error("nothing to change was given: choose a class, or a priority");
    }
    return found;
  };
  return [fields, given];
}

const INHERITED = "What is made from it inherits the class, not the priority.";

export function ReprioritizeAction({
  processing,
  done,
}: {
  processing: Processing;
  done: () => void;
}) {
  const [fields, given] = useUrgency(processing);
  return (
    <Action
      label="Reprioritize"
      done={done}
      asked={{
        title: `Reprioritize ${processing.product} of ${processing.obs_id}`,
        effect: `Classes share the slots of ${processing.provider}, the most urgent most of them; within a class, the highest priority is asked for first. ${INHERITED}`,
        fields,
        withReason: true,
        run: async (reason) =>
          order("POST", `/processings/${encodeURIComponent(processing.id)}/reprioritize`, {
            ...given(),
            reason: reason || null,
          }),
      }}
    />
  );
}

interface AllProps {
  filters: SetFilters;
  /** What they are of, such as `campaign 7`. */
  of: string;
  /** Said besides of what it does not change. */
  besides?: string;
  done: () => void;
}

export function ReprioritizeAllAction({ filters, of, besides = "", done }: AllProps) {
  const [fields, given] = useUrgency();
  return (
    <SetOrderAction
      label="Reprioritize"
      name={`Reprioritize ${of}`}
      command="reprioritize"
      filters={filters}
      title={`Reprioritize what is to be made of ${of}`}
      effect={`What is at its pipeline stays as it is. ${INHERITED}${besides && ` ${besides}`}`}
      fields={fields}
      more={given}
      done={done}
    />
  );
}
