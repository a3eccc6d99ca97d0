"""The folder in which a run records what the next one needs in order to resume."""

import fcntl
from pathlib import Path
from typing import Final

from batuta.cluster.tasks import Delayed
from batuta.datasets.durable_file import remove
from batuta.errors import ConfigurationError
from batuta.orchestrator.resume.journal import make_private_folder

FOLDER: Final = ".resume"
_LOCK_FILE: Final = "owner.lock"


class ResumeFolder:
    """The folder ``.resume`` of an output folder, locked for as long as its owner lives.

    The lock is the system's (``flock``), and not a file that is there or not: it ends with the
    process, however that ends, so that a killed run never keeps the next one out.

    Parameters
    ----------
    out_dir : Path
        The output folder.

    Raises
    ------
    ConfigurationError
        If another run holds the lock, or another user may have written in the folder.
    """

    def __init__(self, out_dir: Path) -> None:
        self.path = out_dir / FOLDER
        make_private_folder(self.path)
        self._lock = (self.path / _LOCK_FILE).open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ConfigurationError(
                f"resume: another run is using {out_dir}; wait for its end or choose another"
                " out_dir"
            ) from None

    def close(self) -> None:
        """Release the lock."""
        self._lock.close()


def remove_previous_runs(out_dir: Path) -> None:
    """Remove the records of earlier runs, so that this one is not taken for a part of them.

    Raises
    ------
    ConfigurationError
        If one of them is still running.
    """
    if (out_dir / FOLDER).is_dir():
        folder = ResumeFolder(out_dir)  # under its lock: not from under a run that uses it
        remove(folder.path)
        folder.close()


def open_resume_folder(out_dir: Path | None, *, resume: bool) -> ResumeFolder | None:
    """Open the records of earlier runs in `out_dir`; without `resume`, remove them.

    Raises
    ------
    ConfigurationError
        If there is no `out_dir`, or another run is using it.
    """
    if resume:
        if out_dir is None:
            raise ConfigurationError(
                "resume: true given without out_dir, where finished tiles are recorded"
            )
        return ResumeFolder(out_dir)
    if out_dir is not None:
        remove_previous_runs(out_dir)
    return None


def check_resumable(mode: str, delayed_type: type) -> None:
    """Refuse a mode whose tasks cannot be compared with those of an earlier run."""
    if not issubclass(delayed_type, Delayed):
        raise ConfigurationError(
            f"resume: true is not supported in mode {mode}, whose delayed objects are not Batuta's"
        )
