// A list that comes page by page.
import type { ComponentChildren } from "preact";
import { useCallback, useEffect, useState } from "preact/hooks";
import { conductor, type Page, withQuery } from "../api";
import { Problem } from "./loaded";

type Query = Record<string, string | number | undefined | null>;

export interface Paged<T> {
  items: T[] | undefined;
  next: string | number | null;
  problem: string | undefined;
  more: () => void;
  reload: () => void;
}

/**
 * Ask for a list, again whenever its query or `changes` change, and every `everyMs` while it is one
 * page. While it is asked for again, what is there stays: a dialog in it stays open.
 */
export function usePaged<T>(
  path: string,
  query: Query = {},
  everyMs = 0,
  changes: unknown = undefined,
): Paged<T> {
  const key = withQuery(path, query);
  const [found, setFound] = useState<{ key: string; page?: Page<T>; problem?: string }>({ key });
  const [turn, setTurn] = useState(0);
  const [isLong, setLong] = useState(false);
  const reload = useCallback(() => setTurn((before) => before + 1), []);
  useEffect(() => {
    let isCurrent = true;
    conductor<Page<T>>(key).then(
      (page) => {
        if (!isCurrent) return;
        setFound({ key, page });
        setLong(false);
      },
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
    if (everyMs <= 0 || isLong) return;
    const timer = setInterval(() => document.hidden || reload(), everyMs);
    return () => clearInterval(timer);
  }, [everyMs, isLong, reload]);
  const page = found.key === key ? found.page : undefined;
  const more = () => {
    if (!page || page.next === null) return;
    conductor<Page<T>>(withQuery(path, { ...query, cursor: page.next })).then(
      (following) => {
        setLong(true);
        const items = [...page.items, ...following.items];
        setFound((before) =>
          before.key === key ? { key, page: { ...following, items } } : before,
        );
      },
      (error: Error) =>
        setFound((before) => (before.key === key ? { ...before, problem: error.message } : before)),
    );
  };
  return {
    items: page?.items,
    next: page?.next ?? null,
    problem: found.key === key ? found.problem : undefined,
    more,
    reload,
  };
}

interface ListProps<T> {
  paged: Paged<T>;
  /** What is said where there is nothing. */
  empty: ComponentChildren;
  children: (items: T[]) => ComponentChildren;
}

/** A list, what is said if it is empty, and the way to its next page. */
export function List<T>({ paged, empty, children }: ListProps<T>) {
  return (
    <>
      <Problem text={paged.problem} />
      {paged.items === undefined ? (
        !paged.problem && <p class="quiet">Asking…</p>
      ) : paged.items.length === 0 ? (
        <div class="empty">{empty}</div>
      ) : (
        children(paged.items)
      )}
      {paged.next !== null && (
        <p>
          <button type="button" onClick={paged.more}>
            Show more
          </button>
        </p>
      )}
    </>
  );
}
