"""How a run ends, well or not: what is open is closed, what is done is kept, nothing is hidden."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from batuta.errors import describe_error
from batuta.orchestrator.errors import DiskFullError
from batuta.orchestrator.resume.run_record import NoRecord, RunRecord
from batuta.orchestrator.saver import Ending, SingleCarsDatasetSaver, close_all

LOG: Final = logging.getLogger(__name__)

Savers = Sequence[SingleCarsDatasetSaver]


def end_well(savers: Savers, record: RunRecord | NoRecord, *, lacking: bool) -> None:
    """Make the files of a run final.

    Parameters
    ----------
    savers : sequence of SingleCarsDatasetSaver
        What is open.
    record : RunRecord or NoRecord
        Of the run.
    lacking : bool
        Whether tiles are missing, which a later run may add.
    """
    record.checkpoint()
    resumable = isinstance(record, RunRecord)
    close_all(savers, Ending.KEPT if resumable else Ending.WHOLE)
    if not lacking:
        record.finish()


def end_early(savers: Savers, record: RunRecord | NoRecord, error: BaseException) -> None:
    """Keep what can be of a run that was interrupted; what cannot be is told with its `error`."""
    with _told_with(error, "the last tiles will be computed again"):
        record.checkpoint()
    if isinstance(record, RunRecord):
        ending = Ending.SUSPENDED
    else:
        ending = Ending.SALVAGED if isinstance(error, DiskFullError) else Ending.ABANDONED
    for output in (output for saver in savers for output in saver.outputs):
        name = Path(output.spec.file_name).name
        with _told_with(error, f"{name} is not ended, its tiles are in .{name}.parts"):
            output.close(ending)


@contextmanager
def _told_with(error: BaseException, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as problem:
        told = f"{what}: {describe_error(problem)}"
        LOG.error("%s", told, exc_info=problem)  # noqa: TRY400 - one line on the screen
        error.add_note(f"Besides, {told}")
