// Approving and refusing, one or many.
import { order } from "../api";
import { plural } from "../format";
import type { Approval } from "../records";
import { address } from "../router";
import { Action } from "./actions";

const EFFECTS: Record<Approval["gate"], { approve: string; refuse: string }> = {
  before: { approve: "it is asked of its pipeline", refuse: "it is not made" },
  after: {
    approve: "what is made from it begins",
    refuse: "nothing is made from this version",
  },
  late: {
    approve: "the late result becomes its version, and what is made from it begins",
    refuse: "the late result is not used",
  },
};

/** Answers in one request, as the conductor accepts them. */
const MAX_ANSWERS = 1000;

interface Props {
  items: Approval[];
  verdict: "approve" | "refuse";
  done: () => void;
  /** Of the button, in place of what it does. */
  label?: string;
}

export function AnswerAction({ items, verdict, done, label }: Props) {
  const one = items.length === 1 ? items[0] : undefined;
  const isLate = items.length > 0 && items.every((each) => each.gate === "late");
  const word = verdict === "refuse" ? "Refuse" : isLate ? "Adopt" : "Approve";
  const what = one ? `${one.product} of ${one.obs_id}` : `all ${items.length}`;
  const gates = [...new Set(items.map((each) => each.gate))];
  return (
    <Action
      label={label ?? word}
      name={`${word} ${what}`}
      isDisabled={items.length === 0}
      done={done}
      asked={{
        title: `${word} ${one ? what : plural(items.length, "answer")}`,
        effect: (
          <>
            <ul class="brief">
              {gates.map((gate) => (
                <li key={gate}>
                  {plural(items.filter((each) => each.gate === gate).length, "product")}:{" "}
                  {EFFECTS[gate][verdict]}
                </li>
              ))}
            </ul>
            {!one && <Named items={items} />}
          </>
        ),
        withReason: verdict === "refuse" ? "needed" : true,
        isDangerous: verdict === "refuse",
        run: (reason) => answer(items, verdict, reason),
      }}
    />
  );
}

function Named({ items }: { items: Approval[] }) {
  const shown = items.slice(0, 5).map((each) => `${each.product} of ${each.obs_id}`);
  return (
    <p class="quiet">
      {shown.join(", ")}
      {items.length > shown.length && ` and ${items.length - shown.length} more`}
    </p>
  );
}

async function answer(items: Approval[], verdict: string, reason: string): Promise<void> {
  const problems: string[] = [];
  for (let start = 0; start < items.length; start += MAX_ANSWERS) {
    const asked = items.slice(start, start + MAX_ANSWERS).map(({ product, obs_id, version }) => {
      return { product, obs_id, version };
    });
    const answers = await order<{ items: { problem: string | null }[] }>(
      "POST",
      `/approvals/${verdict}`,
      { items: asked, reason: reason || null },
    );
    problems.push(...answers.items.flatMap((each) => each.problem ?? []));
  }
  if (problems.length > 0) throw new Error(problems.join("; "));
}

export function ApprovalName({ approval }: { approval: Approval }) {
  const page = address("observations", approval.obs_id);
  return (
    <a href={`${page}?product=${encodeURIComponent(approval.product)}`}>
      {approval.product} of {approval.obs_id}
    </a>
  );
}
