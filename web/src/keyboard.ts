// Keys that work on every page: arrows lead from row to row of a table.

/** What may have the focus in a row. */
const CONTROLS = "a[href], button:not(:disabled), input:not(:disabled), select, summary";
const STEPS: Record<string, number> = { ArrowDown: 1, ArrowUp: -1 };
const ALONG: Record<string, number> = { ArrowRight: 1, ArrowLeft: -1 };

function controlsOf(row: Element): HTMLElement[] {
  return [...row.querySelectorAll<HTMLElement>(CONTROLS)].filter(
    (each) => each.closest("dialog") === null && each.offsetParent !== null,
  );
}

/** Whether arrows mean something of its own to what has the focus. */
function hasOwnArrows(target: HTMLElement): boolean {
  return target.matches(
    "select, textarea, input:not([type=checkbox]), [role=application], dialog *",
  );
}

/** Move the focus by an arrow in a table; return whether it was moved. */
export function moveInTable(event: KeyboardEvent): boolean {
  const target = event.target as HTMLElement;
  const row = target.closest("tbody tr");
  if (!row || hasOwnArrows(target)) return false;
  const controls = controlsOf(row);
  const place = controls.indexOf(target);
  const along = ALONG[event.key];
  if (along !== undefined) return focusOn(controls[place + along]);
  const step = STEPS[event.key];
  if (step === undefined) return false;
  const rows = [...(row.closest("tbody")?.children ?? [])];
  for (let at = rows.indexOf(row) + step; at >= 0 && at < rows.length; at += step) {
    const found = controlsOf(rows[at] as Element);
    if (found.length > 0) return focusOn(found[Math.min(place, found.length - 1)]);
  }
  return false;
}

function focusOn(element: HTMLElement | undefined): boolean {
  element?.focus();
  return element !== undefined;
}
