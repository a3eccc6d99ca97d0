"""A lock on a folder, between the processes of a machine."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.slurm.errors import SlurmError


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Lock `folder`, which is created private to this user; the block may remove it.

    The lock is on the folder itself, so that nothing is left when it is removed.

    Raises
    ------
    SlurmError
        If the folder is another user's, or open to others.
    """
    descriptor = _open_locked(folder)
    try:
        yield
    finally:
        os.close(descriptor)


def _open_locked(folder: Path) -> int:
    """Open and lock the folder; start again if it was removed meanwhile.

    Whoever held the lock may have removed the folder before releasing it: then this process has
    locked a folder without a name, while others lock the new one of that name.
    """
    while True:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        try:
            _check_private(folder, os.fstat(descriptor))
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except BaseException:
            os.close(descriptor)
            raise
        if _is_current(folder, descriptor):
            return descriptor
        os.close(descriptor)


def _check_private(folder: Path, status: os.stat_result) -> None:
    if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise SlurmError(f"{folder}: not a private folder of this user (mode 0700 expected)")


def _is_current(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(folder.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
