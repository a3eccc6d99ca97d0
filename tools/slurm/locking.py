"""One at a time on a folder, among the processes of a machine."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.slurm.errors import SlurmError


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Make `folder`, private to this user, if need be, and hold it alone; it may be removed inside.

    The lock is on the folder itself, so that nothing stays when it goes.

    Raises
    ------
    SlurmError
        If the folder is another user's, or open to others.
    """
    descriptor = _locked(folder)
    try:
        yield
    finally:
        os.close(descriptor)


def _locked(folder: Path) -> int:
    """Open and lock the folder; again if another process removed it meanwhile."""
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
        if _is_still(folder, descriptor):
            return descriptor
        os.close(descriptor)


def _check_private(folder: Path, status: os.stat_result) -> None:
    if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise SlurmError(f"{folder}: not a folder of this user alone (mode 0700 expected)")


def _is_still(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(folder.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
