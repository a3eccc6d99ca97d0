// What waits for a person's approval.
import { useState } from "preact/hooks";
import { plural } from "../format";
import { live, names } from "../live/store";
import { AnswerAction, ApprovalName } from "../parts/answers";
import { ChoiceFilter, given, TextFilter } from "../parts/filters";
import { List, usePaged } from "../parts/paged";
import { Time } from "../parts/time";
import type { Approval } from "../records";
import { address } from "../router";

const GATES = {
  before: "whether it is made",
  after: "whether anything is made from it",
  late: "whether a late result is used",
};

const keyOf = (each: Approval) => `${each.gate} ${each.product} ${each.obs_id} ${each.version}`;

export function Approvals() {
  const gate = given("gate");
  const query = { product: given("product"), obs_id: given("obs_id"), gate, limit: 200 };
  const count = live<{ to_approve?: number }>("summary").value?.to_approve;
  const paged = usePaged<Approval>("/approvals", query, 5000);
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const done = () => {
    setChosen(new Set());
    paged.reload();
  };
  return (
    <div class="page stack">
      <div class="spread">
        <h1>Approvals</h1>
        {count !== undefined && (
          <span class="quiet">{plural(count, "product")} waiting for an answer</span>
        )}
      </div>
      <div class="row">
        <TextFilter name="product" label="Product" names={names.value} placeholder="B or B*" />
        <TextFilter name="obs_id" label="Observation" placeholder="name or o*" />
        <ChoiceFilter name="gate" label="Asked" any="anything" choices={Object.keys(GATES)} />
      </div>
      <List
        paged={paged}
        empty={
          <>
            Nothing waits for approval. A product does that has <code>approval: before</code> or{" "}
            <code>after</code> in the <a href="/graph">graph</a>, and a late result of one that has{" "}
            <code>late_result: ask</code>.
          </>
        }
      >
        {(items) => {
          const selected = items.filter((each) => chosen.has(keyOf(each)));
          return (
            <>
              <div class="row noprint">
                <AnswerAction
                  items={selected}
                  verdict="approve"
                  label={`Approve selected (${selected.length})`}
                  done={done}
                />
                <AnswerAction
                  items={selected}
                  verdict="refuse"
                  label={`Refuse selected (${selected.length})`}
                  done={done}
                />
              </div>
              <div class="scroll">
                <table>
                  <thead>
                    <tr>
                      <th>
                        <input
                          type="checkbox"
                          aria-label="Select all that are shown"
                          checked={items.length > 0 && selected.length === items.length}
                          onChange={(event) =>
                            setChosen(new Set(event.currentTarget.checked ? items.map(keyOf) : []))
                          }
                        />
                      </th>
                      <th>Product</th>
                      <th>Asked</th>
                      <th>Version</th>
                      <th>Since (UTC)</th>
                      <th>Why it is asked</th>
                      <th>
                        <span class="visually-hidden">Orders</span>
                      </th>
                    </tr>
                  </thead>
                  <tbody>
                    {items.map((each) => (
                      <Row
                        key={keyOf(each)}
                        approval={each}
                        isChosen={chosen.has(keyOf(each))}
                        choose={(isChosen) => {
                          const changed = new Set(chosen);
                          if (isChosen) changed.add(keyOf(each));
                          else changed.delete(keyOf(each));
                          setChosen(changed);
                        }}
                        done={done}
                      />
                    ))}
                  </tbody>
                </table>
              </div>
            </>
          );
        }}
      </List>
    </div>
  );
}

interface RowProps {
  approval: Approval;
  isChosen: boolean;
  choose: (isChosen: boolean) => void;
  done: () => void;
}

function Row({ approval, isChosen, choose, done }: RowProps) {
  return (
    <tr>
      <td>
        <input
          type="checkbox"
          aria-label={`Select ${approval.product} of ${approval.obs_id}`}
          checked={isChosen}
          onChange={(event) => choose(event.currentTarget.checked)}
        />
      </td>
      <td>
        <ApprovalName approval={approval} />
      </td>
      <td>{GATES[approval.gate]}</td>
      <td class="error-text">{approval.version}</td>
      <td class="mono">
        <Time at={approval.since} />
      </td>
      <td class="error-text">
        {approval.processing ? (
          <a href={address("processings", approval.processing)}>
            {approval.detail ?? "its processing"}
          </a>
        ) : (
          approval.detail
        )}
      </td>
      <td class="noprint">
        <div class="row">
          <AnswerAction items={[approval]} verdict="approve" done={done} />
          <AnswerAction items={[approval]} verdict="refuse" done={done} />
        </div>
      </td>
    </tr>
  );
}
