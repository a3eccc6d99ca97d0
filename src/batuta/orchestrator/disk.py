"""Recognition of failures that a full disk causes."""

import errno
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from batuta.datasets import TileError
from batuta.orchestrator.errors import DiskFullError

MB: Final = 1_000_000
FULL_BELOW_BYTES: Final = MB
"""Below this, a write error of a library that gives no reason is put down to a full disk."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def find_disk_full(error: BaseException) -> OSError | None:
    """Find, in an exception and its causes, the system error for a full disk or a quota."""
    return next(
        (each for each in _causes(error) if isinstance(each, OSError) and each.errno in _FULL), None
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inside = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        waiting += [one for one in (each.__cause__, each.__context__, *inside) if one is not None]


def least_free(folders: Iterable[Path]) -> tuple[Path, int]:
    """Return the folder with the least free space, and that space in bytes.

    For a folder that does not exist yet, its nearest existing parent is measured.
    """
    free_bytes = {folder: shutil.disk_usage(_existing(folder)).free for folder in folders}
    return min(free_bytes.items(), key=lambda pair: pair[1])


def _existing(folder: Path) -> Path:
    absolute = folder.absolute()
    return next(each for each in (absolute, *absolute.parents) if each.is_dir())


def raise_if_disk_full(error: Exception, folders: Iterable[Path]) -> None:
    """Raise the error that kept a tile from being saved, if the cause is a full disk.

    Parameters
    ----------
    error : Exception
        What was raised. Some libraries give no reason when they cannot write: the free space
        then decides.
    folders : iterable of Path
        Where the tile was written.

    Raises
    ------
    OSError
        With ``ENOSPC``.
    """
    if find_disk_full(error) is not None:
        raise error
    for folder in () if isinstance(error, TileError) else folders:
        if least_free([folder])[1] < FULL_BELOW_BYTES:
            raise OSError(errno.ENOSPC, str(error), str(folder / "output")) from error


def disk_full_error(
    error: BaseException, folders: Iterable[Path], done: int, total: int
) -> DiskFullError | None:
    """Return what to raise instead of an exception that a full disk caused; else None.

    Parameters
    ----------
    error : BaseException
        What was raised.
    folders : iterable of Path
        Where the run writes.
    done, total : int
        Number of tiles that are done, and of all tiles.
    """
    if isinstance(error, DiskFullError):
        return None
    cause, candidates = find_disk_full(error), list(folders)
    if cause is None:
        return None
    if cause.filename is not None:
        candidates = [Path(str(cause.filename)).parent]
    folder, free = least_free(candidates)
    return DiskFullError(str(folder), round(free / MB, 1), done, total)
