// What an operator orders: confirmed by what it will do, and what became of it.
import { useRef, useState } from "preact/hooks";

interface Asked {
  title: string;
  /** What it will do, in words. */
  effect: string;
  /** Whether a reason may be given. */
  withReason?: boolean;
  isDangerous?: boolean;
  run: (reason: string) => Promise<unknown>;
}

/** A button that asks before it does something. */
export function Action({ label, asked, done }: { label: string; asked: Asked; done?: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [problem, setProblem] = useState<string>();
  const [isBusy, setBusy] = useState(false);
  const [reason, setReason] = useState("");
  const confirm = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(undefined);
    try {
      await asked.run(reason.trim());
      dialog.current?.close();
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
        onClick={() => {
          setProblem(undefined);
          dialog.current?.showModal();
        }}
      >
        {label}
      </button>
      <dialog ref={dialog} aria-label={asked.title}>
        <form class="stack" onSubmit={confirm}>
          <h2>{asked.title}</h2>
          <p>{asked.effect}</p>
          {asked.withReason && (
            <label>
              Reason (it is recorded){" "}
              <input
                value={reason}
                maxLength={500}
                onInput={(event) => setReason(event.currentTarget.value)}
              />
            </label>
          )}
          {problem && (
            <p class="problem" role="alert">
              {problem}
            </p>
          )}
          <div class="row">
            <button type="submit" class={asked.isDangerous ? "danger" : "main"} disabled={isBusy}>
              {label}
            </button>
            <button type="button" onClick={() => dialog.current?.close()}>
              Leave it
            </button>
          </div>
        </form>
      </dialog>
    </>
  );
}
