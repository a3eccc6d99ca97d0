"""The end of a run: close its files and its journals, whether it completed or not."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from batuta.errors import describe_error
from batuta.orchestrator.errors import DiskFullError
from batuta.orchestrator.resume.run_record import NullRecord, RunRecord
from batuta.orchestrator.saver import FileEnding, SingleCarsDatasetSaver, close_all

LOG: Final = logging.getLogger(__name__)

Savers = Sequence[SingleCarsDatasetSaver]


def complete_run(savers: Savers, record: RunRecord | NullRecord, *, tiles_missing: bool) -> None:
    """Make the files of a run final.

    Parameters
    ----------
    savers : sequence of SingleCarsDatasetSaver
        The savers whose files are open.
    record : RunRecord or NullRecord
        The record of the run.
    tiles_missing : bool
        Whether tiles failed, which a later run may add.
    """
    # The order is what makes a kill between any two lines harmless. The checkpoint comes first:
    # closing may move or rewrite files, and the journal must not lack tiles that they hold.
    # With resume, what the files were made from stays until `finish` has recorded the final
    # files: killed before that, the next run goes on from it, and closes them again.
    record.checkpoint()
    resumable = isinstance(record, RunRecord)
    close_all(savers, FileEnding.EXTENDABLE if resumable else FileEnding.FINAL)
    if not tiles_missing:
        record.finish()


def abort_run(savers: Savers, record: RunRecord | NullRecord, error: BaseException) -> None:
    """Keep what can be kept of an interrupted run, and add what cannot as notes to `error`."""
    with _note_failure(error, "the last tiles will be computed again"):
        record.checkpoint()
    if isinstance(record, RunRecord):
        ending = FileEnding.SUSPENDED
    else:
        full = isinstance(error, DiskFullError)
        ending = FileEnding.SALVAGED if full else FileEnding.DISCARDED
    # Each file by itself: one that cannot be closed, on a full disk, must not leave others open.
    for output in (output for saver in savers for output in saver.outputs):
        name = Path(output.spec.file_name).name
        with _note_failure(error, f"{name} could not be closed; its tiles are in .{name}.parts"):
            output.close(ending)


@contextmanager
def _note_failure(error: BaseException, what: str) -> Iterator[None]:
    """Log an exception and add it to `error` as a note, so that it does not replace `error`."""
    try:
        yield
    except Exception as exc:
        message = f"{what}: {describe_error(exc)}"
        LOG.error("%s", message, exc_info=exc)  # noqa: TRY400 - one line on the screen
        error.add_note(f"In addition, {message}")
