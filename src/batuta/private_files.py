"""Files that only their owner may read: databases, logs, configurations with secrets."""

import os
from pathlib import Path
from typing import Final

from batuta.durable_folders import sync_folder

PRIVATE_FILE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700


def create_private(path: Path) -> None:
    """Create an empty file that only its owner can read; one that exists is left as it is."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE))
    except FileExistsError:
        return


def write_private(path: Path, text: str) -> None:
    """Write a text file that only its owner can read, whatever was there before."""
    create_private(path)
    path.chmod(PRIVATE_FILE)
    path.write_text(text, encoding="utf-8")


def replace_private(path: Path, text: str) -> None:
    """Replace a text file by one that only its owner can read: after any crash it is either.

    Callers lock, if several may replace it: they share the name of the draft.
    """
    path = path.resolve()  # what a link points to is replaced, not the link
    draft = path.with_name(f".{path.name}.part")
    draft.unlink(missing_ok=True)
    create_private(draft)
    with draft.open("r+", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)
    sync_folder(path.parent)
