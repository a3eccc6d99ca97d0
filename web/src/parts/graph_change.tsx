// Putting a graph in force: checked, previewed, confirmed.
import { useRef, useState } from "preact/hooks";
import { ApiError, call, order } from "../api";
import { formatCount, plural } from "../format";
import { type GraphPreview, WORK_CLASSES } from "../records";
import { Action } from "./actions";
import { counted } from "./set_orders";

/** A document, or a version that was in force. */
export type Choice = { graph: unknown } | { version: number };

function previewGraph(chosen: Choice): Promise<GraphPreview> {
  return order<GraphPreview>("POST", "/graph/preview", chosen);
}

function PreviewView({ preview }: { preview: GraphPreview }) {
  const { counts } = preview;
  const told: [string, Record<string, number>][] = [
    ["would be requested at once", counts.starts],
    ["would follow from that", counts.follows],
    ["would be made again, set aside before", counts.continues],
    ["wait, and would be set aside", counts.set_aside],
    ["would be stale", counts.stale],
    ["versions of the sdb would be recorded", counts.recorded],
  ];
  const lines = told.filter(([, numbers]) => Object.keys(numbers).length > 0);
  const orphans = Object.entries(counts.orphans);
  return (
    <div class="stack" role="status">
      {preview.changes.length === 0 ? (
        <p>It says the same as version {preview.in_force}, which is in force.</p>
      ) : (
        <div class="scroll">
          <table>
            <thead>
              <tr>
                <th>Part</th>
                <th>Change</th>
                <th>Now</th>
                <th>Then</th>
              </tr>
            </thead>
            <tbody>
              {preview.changes.map((each) => (
                <tr key={`${each.part} ${each.name} ${each.key}`}>
                  <td>
                    {each.part} {each.name}
                    {each.key && `, ${each.key}`}
                  </td>
                  <td>{each.kind}</td>
                  <td class="mono error-text">{textOf(each.old)}</td>
                  <td class="mono error-text">{textOf(each.new)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <ul class="brief">
        {lines.map(([what, numbers]) => (
          <li key={what}>
            {counted(numbers)}: {what}
          </li>
        ))}
        {orphans.map(([name, each]) => (
          <li key={name}>
            {name} would be made by nobody: {formatCount(each.available)} available,{" "}
            {formatCount(each.set_aside)} set aside, {formatCount(each.followed)} followed to their
            end
          </li>
        ))}
        {lines.length + orphans.length === 0 && (
          <li>Nothing would be started, set aside or made stale.</li>
        )}
        <li class="quiet">{plural(counts.observations, "observation")} looked at</li>
      </ul>
    </div>
  );
}

function textOf(value: unknown): string {
  return value === null || value === undefined ? "" : JSON.stringify(value);
}

interface ApplyProps {
  label: string;
  name: string;
  title: string;
  chosen: Choice;
  done: () => void;
}

export function ApplyAction({ label, name, title, chosen, done }: ApplyProps) {
  const workClass = useRef<HTMLSelectElement>(null);
  // Refused if another one has been put in force since: what was read is not what would happen.
  const insteadOf = useRef<number | undefined>(undefined);
  const preview = async () => {
    const found = await previewGraph(chosen);
    insteadOf.current = found.in_force;
    return <PreviewView preview={found} />;
  };
  return (
    <Action
      label={label}
      name={name}
      needs="administer"
      done={done}
      asked={{
        title,
        effect: "It is in force at once, without a restart. What runs is followed to its end.",
        preview,
        withReason: true,
        fields: (
          <label>
            Class of what it starts{" "}
            <select ref={workClass}>
              <option value="">that of its products</option>
              {WORK_CLASSES.map((each) => (
                <option key={each} value={each}>
                  {each}
                </option>
              ))}
            </select>
          </label>
        ),
        run: (note) =>
          order("POST", "/graph/versions", {
            ...chosen,
            note: note || null,
            class: workClass.current?.value || null,
            instead_of: insteadOf.current || null,
          }),
      }}
    />
  );
}

interface Checked {
  graph: unknown;
  preview: GraphPreview;
}

export function ChangeForm({ done }: { done: () => void }) {
  const [text, setText] = useState("");
  const [checked, setChecked] = useState<Checked>();
  const [problems, setProblems] = useState<readonly string[]>([]);
  const [isBusy, setBusy] = useState(false);
  const change = (changed: string) => {
    setText(changed);
    setChecked(undefined);
    setProblems([]);
  };
  const check = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setProblems([]);
    setChecked(undefined);
    try {
      const graph = await call<unknown>("POST", "/documents/graph", { text });
      setChecked({ graph, preview: await previewGraph({ graph }) });
    } catch (error) {
      const known = error instanceof ApiError ? error.problems : [];
      setProblems(known.length > 0 ? known : [(error as Error).message]);
    } finally {
      setBusy(false);
    }
  };
  return (
    <section class="card stack noprint" aria-label="Another graph">
      <h2>Put another graph in force</h2>
      <form class="stack" onSubmit={check}>
        <label>
          The document, YAML or JSON: pasted, or{" "}
          <input
            type="file"
            accept=".yaml,.yml,.json"
            aria-label="a file"
            onChange={async (event) => {
              const file = event.currentTarget.files?.[0];
              if (file) change(await file.text());
            }}
          />
          <textarea
            rows={12}
            spellcheck={false}
            value={text}
            aria-label="Document"
            required
            onInput={(event) => change(event.currentTarget.value)}
          />
        </label>
        <div class="row">
          <button type="submit" disabled={isBusy}>
            {isBusy ? "Checking…" : "Check and preview"}
          </button>
          {checked && checked.preview.changes.length > 0 && (
            <ApplyAction
              label="Apply"
              name="Apply this graph"
              title={`Put this graph in force in the place of version ${checked.preview.in_force}`}
              chosen={{ graph: checked.graph }}
              done={() => {
                change("");
                done();
              }}
            />
          )}
        </div>
      </form>
      {problems.length > 0 && (
        <div class="problem" role="alert">
          {problems.map((each) => (
            <div key={each}>{each}</div>
          ))}
        </div>
      )}
      {checked && <PreviewView preview={checked.preview} />}
    </section>
  );
}
