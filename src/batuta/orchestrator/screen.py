"""The output on the terminal while a program runs: one-line warnings, and the progress bar."""

import contextlib
import importlib
import importlib.util
import logging
import sys
from typing import TYPE_CHECKING, Any, Final

from batuta.errors import encodable
from batuta.formatting import format_count
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

if TYPE_CHECKING:
    from tqdm import tqdm

LOST: Final = (OSError, ValueError)
"""What writing to a standard error raises that is closed, full, or a terminal that is gone. It ends
no run: all that matters is in the log file."""

ON_SCREEN: Final = {"on_screen": True}
"""The `extra` of a message below the level of a warning that is shown on the screen too."""


class LoggedTraceback(str):
    """A traceback at the end of a message: in every log, but not on the screen.

    Text, and not the exception: what its author wrote in it may not be UTF-8, and logs are.
    """

    __slots__ = ()

    @classmethod
    def of(cls, traceback: str) -> "LoggedTraceback":
        """Return it on lines of its own; empty for none."""
        return cls(f"\n{encodable(traceback).rstrip()}" if traceback else "")


class Screen(logging.Handler):
    """Writes warnings to standard error, above the progress bar, without tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(name)s: %(levelname)s: %(message)s"))
        self.addFilter(_is_shown)

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line; the log file has the traceback."""
        args = record.args
        if isinstance(args, tuple):
            args = tuple("" if isinstance(each, LoggedTraceback) else each for each in args)
        without_traceback = logging.makeLogRecord(
            record.__dict__ | {"exc_info": None, "exc_text": None, "args": args}
        )
        return f"{record.name.partition('.')[0]}: {without_traceback.getMessage()}"

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; nowhere, in a program that has no standard error, or has lost it."""
        if sys.stderr is None:  # as under pythonw, and in some daemons
            return
        with contextlib.suppress(*LOST):
            _write_line(self.format(record))


def _write_line(line: str) -> None:
    """Write a line on standard error, above the bars that are drawn there."""
    if "tqdm" not in sys.modules:  # it takes 20 ms to be imported, and there is no bar of its
        sys.stderr.write(f"{line}\n")
        return
    from tqdm import tqdm  # noqa: PLC0415 - as above

    tqdm.write(line, file=sys.stderr)


def is_terminal(stream: object) -> bool:
    """Return whether a stream is a terminal; it may be None, closed, or any object with `write`."""
    isatty = getattr(stream, "isatty", None)
    try:
        return isatty is not None and bool(isatty())
    except LOST:
        return False


def bar_class() -> "type[tqdm[Any]] | None":
    """Return the bar of a notebook, or of a terminal; None elsewhere.

    As `tqdm.auto` chooses, but without its warning where a notebook has no ipywidgets: there, the
    bar is text.
    """
    in_notebook = _in_notebook()
    if not in_notebook and not is_terminal(sys.stderr):
        return None
    from tqdm import tqdm  # noqa: PLC0415 - where a bar is drawn alone

    if not in_notebook:
        return tqdm
    if importlib.util.find_spec("ipywidgets") is None:
        return tqdm
    found: type[tqdm[Any]] = importlib.import_module("tqdm.notebook").tqdm
    return found


def _in_notebook() -> bool:
    """Return whether a kernel of Jupyter runs this program, and so shows what it displays."""
    interactive: Any = sys.modules.get("IPython")
    shell = None if interactive is None else interactive.get_ipython()
    return getattr(shell, "kernel", None) is not None


_ENGINES: Final = ("distributed", "tornado", "asyncio")
"""Loggers that write to the log file alone: Batuta reports what their messages mean for tiles."""


def _is_shown(record: logging.LogRecord) -> bool:
    if record.name.partition(".")[0] in _ENGINES:
        return False
    return record.levelno >= logging.WARNING or getattr(record, "on_screen", False)


class ProgressBar:
    """An observer that draws a bar on a terminal or in a notebook, and does nothing elsewhere."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._retried = 0
        self._failed = 0
        self._workers = ""

    def on_event(self, event: Event) -> None:
        """Update the bar; without a terminal, or once it is gone, there is none."""
        try:
            self._update(event)
        except LOST:
            if self._bar is not None:
                self._bar.disable = True  # so that it is not drawn when it is freed
                self._bar = None

    def _update(self, event: Event) -> None:
        kind = bar_class() if isinstance(event, RunStarted) and event.total else None
        if kind is not None and isinstance(event, RunStarted):
            self._retried = self._failed = 0
            self._bar = kind(total=event.total, desc="Tiles", unit="tile")
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
            self._workers = _describe_workers(event)
        counts = {"retried": self._retried, "failed": self._failed}
        parts = [f"{number} {what}" for what, number in counts.items() if number]
        bar.set_postfix_str(
            ", ".join(filter(None, [*parts, self._workers])),
            refresh=isinstance(event, WorkersPresent),
        )


def _describe_workers(event: WorkersPresent) -> str:
    asked = event.present if event.asked is None else event.asked
    count = format_count(asked, "worker")
    if event.asked is not None:
        count = f"{event.present:,} of {count}"
    why = f": {event.waiting_for}" if event.waiting_for else ""
    return f"{count}{why}"
