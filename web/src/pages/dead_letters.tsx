// Dead letters: what was not understood, shown and sent again.
import { useState } from "preact/hooks";
import { conductor, order } from "../api";
import { formatBytes, plural } from "../format";
import { live } from "../live/store";
import { Action } from "../parts/actions";
import { asTime, given, TextFilter, TimeFilter } from "../parts/filters";
import { Show, useLoaded } from "../parts/loaded";
import { List, usePaged } from "../parts/paged";
import { Time } from "../parts/time";
import type { DeadLetter, Resent } from "../records";
import { address, setQuery } from "../router";

export function DeadLetters() {
  const paged = usePaged<DeadLetter>(
    "/dead",
    {
      subject: given("subject"),
      reason: given("reason"),
      since: asTime(given("since")),
      until: asTime(given("until")),
      limit: 100,
    },
    5000,
  );
  const total = live<{ total: number }>("dead").value?.total;
  const [chosen, setChosen] = useState<ReadonlySet<number>>(new Set());
  const [results, setResults] = useState<Resent[]>([]);
  const done = (found: Resent[]) => {
    setChosen(new Set());
    setResults(found);
    paged.reload();
  };
  return (
    <div class="page stack">
      <div class="spread">
        <h1>Dead letters</h1>
        {total !== undefined && <span class="quiet">{plural(total, "message")} put aside</span>}
      </div>
      <div class="row">
        <TextFilter name="subject" label="Subject" placeholder="data.vhf" />
        <TextFilter name="reason" label="Why" placeholder="text in it" />
        <TimeFilter name="since" label="From" />
        <TimeFilter name="until" label="Until" />
      </div>
      {results.length > 0 && <Results results={results} />}
      <List
        paged={paged}
        empty="Every message was understood. One that is not, or that the sdb does not back, is put aside here."
      >
        {(items) => {
          const selected = items.filter((each) => chosen.has(each.sequence));
          return (
            <>
              <div class="noprint">
                <SendAction
                  letters={selected}
                  label={`Send selected again (${selected.length})`}
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
                          checked={selected.length === items.length}
                          onChange={(event) => {
                            const all = items.map((each) => each.sequence);
                            setChosen(new Set(event.currentTarget.checked ? all : []));
                          }}
                        />
                      </th>
                      <th class="number">Number</th>
                      <th>Put aside (UTC)</th>
                      <th>Subject</th>
                      <th>Why</th>
                      <th>Begins with</th>
                      <th class="number">Size</th>
                      <th>
                        <span class="visually-hidden">Orders</span>
                      </th>
                    </tr>
                  </thead>
                  <tbody>
                    {items.map((each) => (
                      <Row
                        key={each.sequence}
                        letter={each}
                        isChosen={chosen.has(each.sequence)}
                        choose={(isChosen) => {
                          const changed = new Set(chosen);
                          if (isChosen) changed.add(each.sequence);
                          else changed.delete(each.sequence);
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
  letter: DeadLetter;
  isChosen: boolean;
  choose: (isChosen: boolean) => void;
  done: (results: Resent[]) => void;
}

function Row({ letter, isChosen, choose, done }: RowProps) {
  const shown = String(letter.sequence);
  const isOpen = given("show") === shown;
  return (
    <>
      <tr>
        <td>
          <input
            type="checkbox"
            aria-label={`Select dead letter ${letter.sequence}`}
            checked={isChosen}
            onChange={(event) => choose(event.currentTarget.checked)}
          />
        </td>
        <td class="number">{letter.sequence}</td>
        <td class="mono">
          <Time at={letter.stored} />
        </td>
        <td>{letter.subject}</td>
        <td class="error-text">{letter.reason}</td>
        <td class="mono error-text">{letter.excerpt}</td>
        <td class="number">{formatBytes(letter.size)}</td>
        <td class="noprint">
          <div class="row">
            <button
              type="button"
              aria-expanded={isOpen}
              aria-label={`Show dead letter ${letter.sequence}`}
              onClick={() => setQuery({ show: isOpen ? null : shown })}
            >
              {isOpen ? "Close" : "Show"}
            </button>
            <SendAction letters={[letter]} label="Send again" done={done} />
          </div>
        </td>
      </tr>
      {isOpen && (
        <tr>
          <td colSpan={8}>
            <Content sequence={letter.sequence} />
          </td>
        </tr>
      )}
    </>
  );
}

function Content({ sequence }: { sequence: number }) {
  const path = `/dead/${sequence}`;
  const loaded = useLoaded(path, () =>
    conductor<{ text: string | null; base64: string | null }>(path),
  );
  return (
    <Show loaded={loaded}>
      {(letter) =>
        letter.text !== null ? (
          <pre class="log" tabIndex={0}>
            {letter.text || "(empty)"}
          </pre>
        ) : (
          <>
            <p class="quiet">It is no text; in base64:</p>
            <pre class="log" tabIndex={0}>
              {letter.base64}
            </pre>
          </>
        )
      }
    </Show>
  );
}

interface SendProps {
  letters: DeadLetter[];
  label: string;
  done: (results: Resent[]) => void;
}

function SendAction({ letters, label, done }: SendProps) {
  const whole = letters.filter((each) => each.whole);
  const one = letters.length === 1 ? letters[0] : undefined;
  const cut = letters.length - whole.length;
  return (
    <Action
      label={label}
      name={one ? `Send dead letter ${one.sequence} again` : label}
      isDisabled={whole.length === 0}
      asked={{
        title: one
          ? `Send dead letter ${one.sequence} again`
          : `Send ${plural(letters.length, "dead letter")} again`,
        effect: `Each is published again where it came from (${[...new Set(whole.map((each) => each.subject))].join(", ")}), and decided about as if it came now.${
          cut > 0 ? ` ${cut} of them cannot be: they were too large to be kept whole.` : ""
        }`,
        run: async () => {
          const answer = await order<{ items: Resent[] }>("POST", "/dead/resend", {
            sequences: whole.map((each) => each.sequence),
            confirmation: randomId(),
          });
          done(answer.items);
        },
      }}
    />
  );
}

/** A UUID of version 4; `crypto.randomUUID` is there over HTTPS alone. */
function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const text = [...bytes].map((each) => each.toString(16).padStart(2, "0")).join("");
  return text.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

function Results({ results }: { results: Resent[] }) {
  return (
    <section class="card" role="status">
      <h2>What became of those that were sent again</h2>
      <ul class="brief">
        {results.map((each) => (
          <li key={each.dead}>
            {each.dead}:{" "}
            {each.problem ??
              (each.event ? (
                <>
                  <a href={address("events", each.event.id)}>{each.event.outcome}</a>
                  {each.event.reason && `, ${each.event.reason}`}
                </>
              ) : (
                `sent to ${each.subject}`
              ))}
          </li>
        ))}
      </ul>
    </section>
  );
}
