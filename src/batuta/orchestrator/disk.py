"""Telling a full disk from other failures."""

import errno
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from batuta.datasets import TileError
from batuta.orchestrator.errors import DiskFullError

MB: Final = 1_000_000
FULL_BELOW_BYTES: Final = MB
"""With less, a library that does not tell why it cannot write is taken to mean this."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def full_disk_in(error: BaseException) -> OSError | None:
    """Find, in an exception and its causes, a system's word that the disk is full."""
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


def fullest(folders: Iterable[Path]) -> tuple[Path, int]:
    """Give, of folders, the one with the least room, and how much it has in bytes.

    A folder that is not there yet stands for the one that it will be made in.
    """
    rooms = {folder: shutil.disk_usage(_existing(folder)).free for folder in folders}
    return min(rooms.items(), key=lambda pair: pair[1])


def _existing(folder: Path) -> Path:
    absolute = folder.absolute()
    return next(each for each in (absolute, *absolute.parents) if each.is_dir())


def stop_if_full(error: Exception, folders: Iterable[Path]) -> None:
    """Raise what kept a tile from being saved, if it is that a disk is full.

    Parameters
    ----------
    error : Exception
        Some libraries do not tell why they cannot write: then the room that is left does.
    folders : iterable of Path
        Where the tile goes.

    Raises
    ------
    OSError
        With ``ENOSPC``.
    """
    if full_disk_in(error) is not None:
        raise error
    for folder in () if isinstance(error, TileError) else folders:
        if fullest([folder])[1] < FULL_BELOW_BYTES:
            raise OSError(errno.ENOSPC, str(error), str(folder / "output")) from error


def disk_full_error(
    error: BaseException, folders: Iterable[Path], done: int, total: int
) -> DiskFullError | None:
    """Return what to raise in the place of an exception that a full disk caused; else None.

    Parameters
    ----------
    error : BaseException
        What was raised.
    folders : iterable of Path
        Where the run writes.
    done, total : int
        Tiles.
    """
    if isinstance(error, DiskFullError):
        return None
    found, candidates = full_disk_in(error), list(folders)
    if found is None:
        return None
    if found.filename is not None:
        candidates = [Path(str(found.filename)).parent]
    folder, free = fullest(candidates)
    return DiskFullError(str(folder), round(free / MB, 1), done, total)
