"""Files that outlive a killed process and a power loss."""

import errno
import os
import shutil
from pathlib import Path
from typing import Final

_CAN_SYNC_FOLDERS: Final = os.name == "posix"
_CANNOT_RESERVE: Final = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


def sync_file(path: Path) -> None:
    """Have what is in a file reach the disk."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def sync_folder(path: Path) -> None:
    """Have the names in a folder reach the disk."""
    if not _CAN_SYNC_FOLDERS:
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Have a folder and all that it holds reach the disk."""
    for where, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(where, name))
        sync_folder(Path(where))


def publish(draft: Path, path: Path) -> None:
    """Return a whole file its final name at once; whatever happens, the old or the new is there."""
    sync_file(draft)
    draft.replace(path)
    sync_folder(path.parent)


def publish_folder(draft: Path, path: Path) -> None:
    """Return a whole folder its final name; what was there, a file or a folder, goes first."""
    sync_tree(draft)
    if path.exists():
        # A folder cannot be replaced at once: the old one steps aside, next to the draft.
        aside = draft.with_name(f"{draft.name}.replaced")
        remove(aside)
        path.replace(aside)
    draft.replace(path)
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove a file, a folder or a link, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def reserve(path: Path, at_least: int) -> None:
    """Have the disk space of a file taken, holes included, where the file system can.

    Parameters
    ----------
    path : Path
        A file as long as it will ever be.
    at_least : int
        Bytes that it must hold.

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
            if exc.errno not in _CANNOT_RESERVE:
                raise


class Workspace:
    """The hidden folder next to an output in which it is made.

    Parameters
    ----------
    path : Path
        The output.
    resume : bool
        Whether what an earlier run left there is kept.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.folder = workspace_of(path)
        if not resume:
            remove(self.folder)
        self.folder.mkdir(parents=True, exist_ok=resume)
        sync_folder(path.parent)

    def remove(self) -> None:
        """Remove it and all that it holds."""
        remove(self.folder)


def workspace_of(path: Path) -> Path:
    """Return the folder that an output is made in."""
    return path.with_name(f".{path.name}.parts")
