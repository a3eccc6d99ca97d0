// What an operator orders: confirmed by what it will do, and what became of it.
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { type Scope, scopes } from "../api";
import { Problem } from "./loaded";

/** Of a reason, in characters, as the conductor accepts it. */
const MAX_REASON = 400;

export interface Asked {
  title: string;
  /** What it will do, in words. */
  effect: ComponentChildren;
  /** Asks what it would do now, when the question is opened; nothing is confirmed before. */
  preview?: () => Promise<ComponentChildren>;
  /** More that is to be given. */
  fields?: ComponentChildren;
  /** Whether a reason may be given, or must be. */
  withReason?: boolean | "needed";
  isDangerous?: boolean;
  run: (reason: string) => Promise<unknown>;
}

interface ActionProps {
  label: string;
  asked: Asked;
  done?: () => void;
  isDisabled?: boolean;
  /** What is said of the button where its label alone says too little. */
  name?: string;
  /** The scope that it needs; whose token has another is not offered it. */
  needs?: Scope;
}

/** A button that asks before it does something. */
export function Action({ needs = "operate", ...given }: ActionProps) {
  return scopes.value.includes(needs) ? <Offered {...given} /> : null;
}

function Offered({ label, asked, done, isDisabled, name }: Omit<ActionProps, "needs">) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [problem, setProblem] = useState<string>();
  const [isBusy, setBusy] = useState(false);
  const [reason, setReason] = useState("");
  const [seen, setSeen] = useState<ComponentChildren>();
  const [isUnseen, setUnseen] = useState(false);
  const [isOpen, setOpen] = useState(false);
  useLayoutEffect(() => {
    // Once what is asked is there: the first of it is given the focus.
    if (isOpen) dialog.current?.showModal();
  }, [isOpen]);
  const open = () => {
    setProblem(undefined);
    setOpen(true);
    if (!asked.preview) return;
    setSeen(undefined);
    setUnseen(true);
    asked.preview().then(
      (found) => {
        setSeen(found);
        setUnseen(false);
      },
      (error: Error) => setProblem(error.message),
    );
  };
  const confirm = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(undefined);
    try {
      await asked.run(reason.trim());
      dialog.current?.close();
      setReason("");
      done?.();
    } catch (error) {
      setProblem((error as Error).message);
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <button
        type="button"
        class={asked.isDangerous ? "danger" : ""}
        disabled={isDisabled}
        {...(name ? { "aria-label": name } : {})}
        onClick={open}
      >
        {label}
      </button>
      <dialog ref={dialog} aria-label={asked.title} onClose={() => setOpen(false)}>
        {isOpen && (
          <form class="stack" onSubmit={confirm}>
            <h2>{asked.title}</h2>
            <div>{asked.effect}</div>
            {isUnseen && !problem && <p class="quiet">Counting what it is about…</p>}
            {seen}
            {asked.fields}
            {asked.withReason && (
              <label>
                Reason (it is recorded){" "}
                <input
                  value={reason}
                  maxLength={MAX_REASON}
                  required={asked.withReason === "needed"}
                  onInput={(event) => setReason(event.currentTarget.value)}
                />
              </label>
            )}
            <Problem text={problem} />
            <div class="row">
              <button
                type="submit"
                class={asked.isDangerous ? "danger" : "main"}
                disabled={isBusy || isUnseen}
              >
                {label}
              </button>
              <button type="button" onClick={() => dialog.current?.close()}>
                Leave it
              </button>
            </div>
          </form>
        )}
      </dialog>
    </>
  );
}
