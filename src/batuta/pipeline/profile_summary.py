"""Writes the summary of a profile whose run was stopped before it could.

``python -m batuta.pipeline.profile_summary FOLDER``: a program of its own, because
reading tables and drawing charts take memory that a service must not retain.
"""

import asyncio
import logging
import sys
from pathlib import Path
from typing import Final

from batuta.commands import run_command
from batuta.errors import BatutaError
from batuta.pipeline.exit_status import describe_exit
from batuta.profiling.capture.layout import SUMMARY_HTML, SUMMARY_TEXT

LOG: Final = logging.getLogger(__name__)

SUMMARY_TIMEOUT_S: Final = 120.0
"""How long writing a summary may take, in seconds."""


class SummaryError(BatutaError):
    """A profile cannot be summarised; the message is one line."""


class SummaryWriter:
    """Writes missing summaries when they are first requested, one at a time."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def ensure(self, folder: Path) -> None:
        """Write the summary of the profile in `folder`, as text and as a page, if it has none.

        Raises
        ------
        SummaryError
            If it cannot be read or drawn.
        """
        if _has_summary(folder):
            return
        async with self._lock:
            if not _has_summary(folder):  # another request may have written it meanwhile
                await _run(sys.executable, "-m", __name__, str(folder))


def _has_summary(folder: Path) -> bool:
    return any((folder / name).exists() for name in (SUMMARY_TEXT, SUMMARY_HTML))


async def _run(*command: str) -> None:
    try:
        code, _, errors = await run_command(command, SUMMARY_TIMEOUT_S)
    except TimeoutError as exc:
        raise SummaryError(f"writing the summary timed out after {SUMMARY_TIMEOUT_S:g} s") from exc
    except OSError as exc:
        raise SummaryError(f"writing the summary cannot be started: {exc.strerror}") from exc
    if errors.strip():
        LOG.warning("%s: %s", " ".join(command[1:]), errors.strip())
    if code:
        raise SummaryError(errors.strip().rpartition("\n")[2] or f"it {describe_exit(code)}")


def write_summary(folder: Path) -> None:
    """Write the summary of the profile in `folder`.

    The page first: with the text alone, nobody would write the page any more.

    Raises
    ------
    ConfigurationError
        If it cannot be read.
    """
    from batuta.profiling.analysis.analyse import analyse_profile  # noqa: PLC0415  not in the service
    from batuta.profiling.files.reader import read_profile  # noqa: PLC0415  the same
    from batuta.profiling.report.text import profile_text  # noqa: PLC0415  the same

    analysis = analyse_profile(read_profile(folder))
    try:
        from batuta.profiling.report.page import profile_page  # noqa: PLC0415  the same
    except ImportError as exc:
        LOG.warning("only text: %s", exc)
    else:
        _write(folder / SUMMARY_HTML, profile_page(analysis))
    _write(folder / SUMMARY_TEXT, profile_text(analysis))


def _write(path: Path, text: str) -> None:
    """Write a file whole, or not at all."""
    draft = path.with_name(f".{path.name}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


if __name__ == "__main__":
    try:
        write_summary(Path(sys.argv[1]))
    except BatutaError as exc:
        sys.exit(str(exc))
