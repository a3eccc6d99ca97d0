"""Durable files: fsync, atomic replacement, allocation of disk space."""

import ctypes
import errno
import os
import shutil
from pathlib import Path
from typing import Final

from batuta.durable_folders import create_folder, sync_folder

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
"""Of Linux's <fcntl.h> and <linux/fs.h>: Python has no call of renameat2."""
_EXCHANGE_UNSUPPORTED: Final = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
_ALLOCATION_UNSUPPORTED: Final = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


def sync_file(path: Path) -> None:
    """Flush the content of a file to the disk (fsync)."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def sync_tree(folder: Path) -> None:
    """Flush a folder and everything in it to the disk."""
    for where, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(where, name))
        sync_folder(Path(where))


def replace_file(draft: Path, path: Path) -> None:
    """Rename a complete file over `path`: after any crash, the old or the new one is there."""
    sync_file(draft)
    draft.replace(path)
    sync_folder(path.parent)


def replace_folder(draft: Path, path: Path) -> None:
    """Rename a complete folder over `path`: after any crash, the old or the new one is there.

    Where the system cannot exchange two folders, none is there for a moment.
    """
    sync_tree(draft)
    if path.exists():
        # rename(2) cannot replace a folder that is not empty.
        aside = draft.with_name(f"{draft.name}.replaced")
        remove(aside)
        if _exchange(draft, path):
            draft.replace(aside)
        else:
            path.replace(aside)
            draft.replace(path)
    else:
        draft.replace(path)
    sync_folder(path.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths atomically; return whether the system supports it.

    Raises
    ------
    OSError
        If it does, and the exchange failed.
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, TypeError):  # no Linux, or no C library of these years
        return False
    paths = (os.fsencode(one), os.fsencode(other))
    if renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _EXCHANGE_UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), os.fspath(other))


def remove(path: Path) -> None:
    """Delete a file, a folder or a link, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def allocate(path: Path, at_least: int) -> None:
    """Allocate the disk space of a file, holes included, where the file system supports it.

    Parameters
    ----------
    path : Path
        A file of its final length.
    at_least : int
        Bytes that it must have at least.

    Raises
    ------
    OSError
        With ``ENOSPC`` when the disk is full.
    """
    size = path.stat().st_size
    if size < at_least:
        raise OSError(errno.ENOSPC, f"{size} of {at_least} bytes written", os.fspath(path))
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("rb+") as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, size)
        except OSError as exc:
            if exc.errno not in _ALLOCATION_UNSUPPORTED:
                raise


class Workspace:
    """The hidden folder next to an output, in which the output is prepared.

    Parameters
    ----------
    path : Path
        The output.
    resume : bool
        Whether to keep what an earlier run left in it.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.folder = workspace_of(path)
        if not resume:
            remove(self.folder)
        create_folder(path.parent)
        self.folder.mkdir(exist_ok=resume)
        sync_folder(path.parent)

    def remove(self) -> None:
        """Delete the folder and everything in it."""
        remove(self.folder)


def workspace_of(path: Path) -> Path:
    """Return the path of the workspace of an output."""
    return path.with_name(f".{path.name}.parts")
