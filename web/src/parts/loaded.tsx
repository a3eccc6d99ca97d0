// What is asked for when a page is opened, and again from time to time.
import type { ComponentChildren } from "preact";
import { useCallback, useEffect, useState } from "preact/hooks";

export interface Loaded<T> {
  value: T | undefined;
  problem: string | undefined;
  reload: () => void;
}

/**
 * Ask now, whenever `key` or `changes` change, and every `everyMs`.
 *
 * While it is asked for again, what is there of the same `key` stays: a dialog in it stays open.
 */
export function useLoaded<T>(
  key: string,
  ask: () => Promise<T>,
  everyMs = 0,
  changes = "",
): Loaded<T> {
  const [found, setFound] = useState<{ key: string; value?: T; problem?: string }>({ key });
  const [turn, setTurn] = useState(0);
  const reload = useCallback(() => setTurn((before) => before + 1), []);
  useEffect(() => {
    let isCurrent = true;
    ask().then(
      (value) => isCurrent && setFound({ key, value }),
      (error: Error) =>
        isCurrent &&
        setFound((before) => ({
          ...(before.key === key ? before : { key }),
          problem: error.message,
        })),
    );
    return () => {
      isCurrent = false;
    };
  }, [key, turn, changes]);
  useEffect(() => {
    if (everyMs <= 0) return;
    const timer = setInterval(() => document.hidden || reload(), everyMs);
    return () => clearInterval(timer);
  }, [everyMs, reload]);
  const isSame = found.key === key;
  return {
    value: isSame ? found.value : undefined,
    problem: isSame ? found.problem : undefined,
    reload,
  };
}

export function Problem({ text }: { text: string | undefined }) {
  return text === undefined ? null : (
    <p class="problem" role="alert">
      {text}
    </p>
  );
}

export function Show<T>({
  loaded,
  children,
}: {
  loaded: Loaded<T>;
  children: (value: T) => ComponentChildren;
}) {
  return (
    <>
      <Problem text={loaded.problem} />
      {loaded.value !== undefined
        ? children(loaded.value)
        : loaded.problem === undefined && <p class="quiet">Asking…</p>}
    </>
  );
}
