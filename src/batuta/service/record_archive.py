"""Records that leave a database, in files that other tools read: JSON lines, gzip'd, by month.

``<folder>/<YYYY-MM>/<service>-<batch>.jsonl.gz`` has one JSON object a line. A file is written
whole under another name, synced and renamed, so that it is either there and complete or not there
at all; and only then are its records deleted. Its name is chosen and recorded first: whoever
continues after a kill writes the same file again, and no record is in two.
"""

import gzip
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from batuta.durable_folders import create_folder, sync_folder
from batuta.errors import BatutaError
from batuta.private_files import PRIVATE_FILE, PRIVATE_FOLDER

SUFFIX: Final = ".jsonl.gz"


class ArchiveError(BatutaError):
    """The archive cannot be written or read: nothing is dropped."""


def new_file_name(service: str, now: float) -> str:
    """Return a name that no file of the archive has, relative to its folder.

    Parameters
    ----------
    service : str
        Its name, which is a valid name of a file.
    now : float
        Seconds since 1970.
    """
    moment = datetime.fromtimestamp(now, UTC)
    return f"{moment:%Y-%m}/{service}-{moment:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}{SUFFIX}"


def write_archive(folder: Path, name: str, records: Iterable[Mapping[str, Any]]) -> None:
    """Write the file `name` of an archive, complete or not at all, and return once it is on disk.

    One that is there is replaced; without records, it is removed.

    Raises
    ------
    ArchiveError
        If it cannot be written.
    """
    path = folder / name
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    try:
        create_folder(path.parent, PRIVATE_FOLDER)
        if lines:
            _replace(path, "".join(lines).encode())
        else:
            path.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as exc:
        raise ArchiveError(f"archive {path}: {exc.strerror or exc}; nothing is dropped") from exc


def read_archive(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """Yield the records in the file `name` of an archive; none if there is no such file.

    Raises
    ------
    ArchiveError
        If it cannot be read.
    """
    path = folder / name
    if not path.exists():
        return
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)
    except (OSError, EOFError, ValueError) as exc:
        raise ArchiveError(f"archive {path}: not readable: {exc}") from exc


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.part")
    # Without the time in its header, the same records are the same bytes.
    compressed = gzip.compress(content, mtime=0)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(compressed)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)
