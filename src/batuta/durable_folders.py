"""Folders whose names are on the disk: a file that is synced is lost with the name of its folder.

A file system may write a name long after what it leads to was synced (fsync); until then, a loss of
power takes it away.
"""

import os
from pathlib import Path
from typing import Final

_CAN_SYNC_FOLDERS: Final = os.name == "posix"


def create_folder(folder: Path, mode: int = 0o777) -> None:
    """Create a folder, and those that it is in, and return once their names are on the disk.

    Parameters
    ----------
    folder : Path
        One that exists is left as it is.
    mode : int
        Who may do what in those that are created, less what the umask takes away.
    """
    if folder.is_dir():
        return
    if not folder.parent.exists():
        create_folder(folder.parent, mode)
    folder.mkdir(mode=mode, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk (fsync)."""
    if not _CAN_SYNC_FOLDERS:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
