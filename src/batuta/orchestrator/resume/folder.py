"""The folder in which a run keeps what the next one needs to go on where it was."""

import fcntl
from pathlib import Path
from typing import Final

from batuta.cluster.tasks import Delayed
from batuta.datasets.durable_file import remove
from batuta.errors import ConfigurationError
from batuta.orchestrator.resume.journal import make_private

FOLDER: Final = ".resume"
_LOCK_FILE: Final = "owner.lock"


class ResumeFolder:
    """The folder ``.resume`` of a run, held under a lock for as long as its owner lives.

    Parameters
    ----------
    out_dir : Path
        Where it is.

    Raises
    ------
    ConfigurationError
        If another run holds it, or another user may have written in it.
    """

    def __init__(self, out_dir: Path) -> None:
        self.path = out_dir / FOLDER
        make_private(self.path)
        self._lock = (self.path / _LOCK_FILE).open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ConfigurationError(
                f"resume: another run works in {out_dir} at this moment"
            ) from None

    def close(self) -> None:
        """Let the next run in."""
        self._lock.close()


def forget_earlier_runs(out_dir: Path) -> None:
    """Remove what earlier runs kept, so that this one cannot be mistaken for their end.

    Raises
    ------
    ConfigurationError
        If one of them still works.
    """
    if (out_dir / FOLDER).is_dir():
        held = ResumeFolder(out_dir)
        remove(held.path)
        held.close()


def prepare(out_dir: Path | None, *, resume: bool) -> ResumeFolder | None:
    """Open what earlier runs kept in `out_dir`; without `resume`, remove it.

    Raises
    ------
    ConfigurationError
        If there is no `out_dir`, or another run works there.
    """
    if resume:
        if out_dir is None:
            raise ConfigurationError("resume: true needs out_dir, where what is done is noted")
        return ResumeFolder(out_dir)
    if out_dir is not None:
        forget_earlier_runs(out_dir)
    return None


def check_resumable(mode: str, delayed_type: type) -> None:
    """Refuse a mode whose tasks cannot be compared with those of an earlier run."""
    if not issubclass(delayed_type, Delayed):
        raise ConfigurationError(f"resume: true is not for mode {mode}, whose tasks cannot be read")
