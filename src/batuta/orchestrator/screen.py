"""What people see while a program runs: warnings, one line each, and the progress bar."""

import logging
import sys
from typing import Any, Final

from tqdm import tqdm

from batuta.orchestrator.events import (
    Event,
    RunEnded,
    RunStarted,
    TileDone,
    TileFailed,
    TileKept,
    TileRetried,
    WorkersPresent,
)

ON_SCREEN: Final = {"on_screen": True}
"""For the `extra` of a message that is no warning, and that people want to see all the same."""


class Screen(logging.Handler):
    """Writes warnings on the standard error, above the progress bar, tracebacks left out."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(name)s: %(levelname)s: %(message)s"))
        self.addFilter(_is_for_people)

    def format(self, record: logging.LogRecord) -> str:
        """Say in one line what happened; the log file has the rest."""
        bare = logging.makeLogRecord(record.__dict__ | {"exc_info": None, "exc_text": None})
        return f"{record.name.partition('.')[0]}: {bare.getMessage()}"

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message."""
        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except Exception:  # noqa: BLE001 - as every handler: logging decides what becomes of it
            self.handleError(record)


_ENGINES: Final = ("distributed", "tornado", "asyncio")
"""Whose messages are for the log file alone: what they mean for tiles, Batuta says."""


def _is_for_people(record: logging.LogRecord) -> bool:
    if record.name.partition(".")[0] in _ENGINES:
        return False
    return record.levelno >= logging.WARNING or getattr(record, "on_screen", False)


class ProgressBar:
    """An observer that draws a bar on a terminal, and nothing elsewhere."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._retried = 0
        self._failed = 0
        self._workers = ""

    def on_event(self, event: Event) -> None:
        """Draw what happened."""
        if isinstance(event, RunStarted) and event.total and sys.stderr.isatty():
            self._retried = self._failed = 0
            self._bar = tqdm(total=event.total, desc="Tiles", unit="tile")
            self._bar.set_postfix_str(self._workers)
        elif self._bar is not None and isinstance(event, RunEnded):
            self._bar.close()
            self._bar = None
        elif self._bar is not None:
            self._draw(self._bar, event)

    def _draw(self, bar: "tqdm[Any]", event: Event) -> None:
        if isinstance(event, TileDone | TileKept | TileFailed):
            self._failed += isinstance(event, TileFailed)
            bar.set_description_str(event.dataset_name, refresh=False)
            bar.update()
        elif isinstance(event, TileRetried):
            self._retried += 1
        elif isinstance(event, WorkersPresent):
            self._workers = _workers_told(event)
        counts = {"retried": self._retried, "failed": self._failed}
        told = [f"{number} {what}" for what, number in counts.items() if number]
        bar.set_postfix_str(
            ", ".join(filter(None, [*told, self._workers])),
            refresh=isinstance(event, WorkersPresent),
        )


def _workers_told(there: WorkersPresent) -> str:
    count = f"{there.present}" if there.asked is None else f"{there.present} of {there.asked}"
    why = f": {there.waiting_for}" if there.waiting_for else ""
    return f"{count} workers{why}"
