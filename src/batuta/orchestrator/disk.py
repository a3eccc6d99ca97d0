"""Recognition of failures that a full disk of ours causes, and no other."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from batuta.cluster import NoSpaceError
from batuta.cluster.store import NO_SPACE
from batuta.datasets import TileError
from batuta.errors import chain_of
from batuta.orchestrator.errors import DiskFullError

MB: Final = 1_000_000
FULL_BELOW_BYTES: Final = MB
"""Below this, a write error of a library that gives no reason is put down to a full disk."""


def find_no_space(error: BaseException) -> NoSpaceError | None:
    """Return that Batuta itself had no room to write, if that is what ended a task or a run.

    The origin decides, not an errno: what a task, an observer or a final function raises about a
    disk of its own is its own.
    """
    return next((each for each in (error, error.__cause__) if isinstance(each, NoSpaceError)), None)


@contextmanager
def own_writes(folders: Callable[[], Iterable[Path]] = tuple) -> Iterator[None]:
    """Mark what a full disk raises in a block: there, it is Batuta that writes.

    Parameters
    ----------
    folders : callable
        Returns where it writes. Some libraries give no reason when they cannot write: the free
        space there then decides.

    Raises
    ------
    NoSpaceError
        From what was raised, if the cause is a full disk.
    """
    try:
        yield
    except NoSpaceError:
        raise
    except Exception as exc:
        folder = _full_folder(exc, tuple(folders()))
        if folder is None:
            raise
        raise NoSpaceError(str(folder)) from exc


def _full_folder(error: Exception, folders: Sequence[Path]) -> Path | None:
    for cause in chain_of(error):
        if isinstance(cause, OSError) and cause.errno in NO_SPACE:
            if cause.filename is not None:
                return Path(os.fsdecode(cause.filename)).parent
            return least_free(folders)[0] if folders else None
    if isinstance(error, TileError):
        return None
    return next((each for each in folders if least_free([each])[1] < FULL_BELOW_BYTES), None)


def least_free(folders: Iterable[Path]) -> tuple[Path, int]:
    """Return the folder with the least free space, and that space in bytes.

    For a folder that does not exist yet, its nearest existing parent is measured.
    """
    free_bytes = {folder: shutil.disk_usage(_existing(folder)).free for folder in folders}
    return min(free_bytes.items(), key=lambda pair: pair[1])


def _existing(folder: Path) -> Path:
    absolute = folder.absolute()
    return next(each for each in (absolute, *absolute.parents) if each.is_dir())


def disk_full_error(error: BaseException, done: int, total: int) -> DiskFullError | None:
    """Return what to raise instead of an exception that a full disk of ours caused; else None.

    Parameters
    ----------
    error : BaseException
        What was raised.
    done, total : int
        Number of tiles that are done, and of all tiles.
    """
    found = find_no_space(error)
    if found is None:
        return None
    _, free = least_free([Path(found.folder)])
    return DiskFullError(found.folder, round(free / MB, 1), done, total)
