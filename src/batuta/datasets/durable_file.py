"""Durable files: fsync, atomic replacement, allocation of disk space."""

import errno
import os
import shutil
from pathlib import Path
from typing import Final

from batuta.durable_folders import create_folder, sync_folder

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
    """Rename a complete folder to `path`, replacing what is there."""
    sync_tree(draft)
    if path.exists():
        # rename(2) cannot replace a folder that is not empty: move the old one away first.
        aside = draft.with_name(f"{draft.name}.replaced")
        remove(aside)
        path.replace(aside)
    draft.replace(path)
    sync_folder(path.parent)


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
