"""Imports of files that the sdb reads itself, in folders that its operator has named.

No bytes go through HTTP. Where the file system shares blocks (XFS, Btrfs), none are copied either;
else the kernel copies them. A name never leads out of its folder: it is opened component by
component, none of which may be a link, and all that follows is done to what was opened.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Final

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from batuta.errors import ConfigurationError, encodable
from batuta.sdb.catalogue import ImportResult
from batuta.sdb.fields import MAX_FIELDS_BYTES, ImportRequest, ImportSubject, refuse
from batuta.sdb.json_fields import read_object, request_of
from batuta.sdb.new_product import NewProduct
from batuta.sdb.quota import Reception
from batuta.sdb.recording import ImportRecorder, too_large
from batuta.sdb.request_body import read_whole, require_type
from batuta.sdb.settings import SdbSettings, store_folder
from batuta.sdb.store import SmallFile, file_errors
from batuta.service.problems import ProblemError
from batuta.service.threads import ended_in_thread

PATH: Final = "path"
MAX_BODY_BYTES: Final = MAX_FIELDS_BYTES + 2**16
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Not waiting: a pipe would be waited for until somebody writes to it."""


@dataclass(frozen=True)
class ReferenceImporter:
    """Imports files by their names.

    Parameters
    ----------
    recorder : ImportRecorder
        Stores and records them.
    folders : sequence of Path
        What they may be in: real paths.
    max_upload_bytes, small_file_bytes : int
        The largest file accepted, and the largest that is kept in the database.
    """

    recorder: ImportRecorder
    folders: Sequence[Path]
    max_upload_bytes: int
    small_file_bytes: int

    async def import_named(self, request: Request) -> ImportResult:
        """Import the file that the JSON of a request names.

        Raises
        ------
        ProblemError
            403 if it is in none of the folders, 404 if there is none, 409 if it changes meanwhile;
            as for every import.
        StoreError
            If it cannot be read, or the store cannot be written.
        """
        require_type(request, "application/json")
        said = read_object(await read_whole(request, MAX_BODY_BYTES, "body"))
        path = said.pop(PATH, None)
        if not isinstance(path, str):
            refuse(f"{PATH}: {str(path)[:80]!r} (accepted: the absolute path of a file)")
        asked = request_of({"filename": PurePosixPath(path).name, **said})
        subject = ImportSubject(
            product=asked.product, obs_id=asked.obs_id, processing_id=asked.processing_id
        )
        with self.recorder.metrics.receiving.track_inprogress():
            source = await run_in_threadpool(self._open, path)
            try:
                size = os.fstat(source).st_size
                if size > self.max_upload_bytes:
                    raise too_large(self.max_upload_bytes)
                async with self.recorder.counted(subject, size) as reception:
                    take = _Taking(self, asked, reception, source)
                    new, repeated = await ended_in_thread(take.run)
            finally:
                os.close(source)
        return await self.recorder.record(new, repeated)

    def _open(self, path: str) -> int:
        """Open a file; nothing that it names leads out of its folder."""
        given = PurePosixPath(path)
        for folder in self.folders:
            if given.is_relative_to(folder):
                return _open_beneath(folder, given.relative_to(folder).parts, path)
        named = ", ".join(map(str, self.folders)) or "none is named: see reference_folders"
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            f"{PATH}: {path[:200]!r} is in no folder that files are imported from by reference "
            f"({named})",
        )


@dataclass(frozen=True)
class _Taking:
    """Copies an open file to where files are received, and stores it; it blocks."""

    importer: ReferenceImporter
    asked: ImportRequest
    reception: Reception
    source: int

    def run(self) -> tuple[NewProduct, ImportResult | None]:
        before = _signature_of(self.source)
        recorder = self.importer.recorder
        if before[0] <= self.importer.small_file_bytes:
            with file_errors():
                small = SmallFile(os.pread(self.source, before[0], 0))
            self._require_same(before, small.size)
            return recorder.store_file(self.asked, None, self.reception, small)
        with closing(recorder.store.receive()) as upload:
            self.reception.write(before[0])
            with file_errors():
                upload.copy_from(self.source, before[0])
            self._require_same(before, upload.size)
            return recorder.store_file(self.asked, None, self.reception, upload)

    def _require_same(self, before: tuple[int, int, int], size: int) -> None:
        if size != before[0] or _signature_of(self.source) != before:
            raise ProblemError(
                HTTPStatus.CONFLICT,
                f"{PATH}: the file changed while it was imported; nothing was recorded",
            )


def open_folders(settings: SdbSettings) -> list[Path]:
    """Return the folders that files may be imported from by reference, as they really are.

    Raises
    ------
    ConfigurationError
        If one is no folder, or is, has or is in that of the store.
    """
    problems, found = [], []
    store = store_folder(settings.store_url)
    ours = [settings.scratch_folder, *([store] if store is not None else [])]
    for given in settings.reference_folders:
        folder = given.resolve()
        if not folder.is_dir():
            problems.append(f"reference_folders: {given}: not a folder")
        problems += [
            f"reference_folders: {given}: overlaps {own}, which is the sdb's"
            for own in (each.resolve() for each in ours)
            if own.is_relative_to(folder) or folder.is_relative_to(own)
        ]
        found.append(folder)
    if problems:
        raise ConfigurationError(problems)
    return found


def _open_beneath(folder: Path, parts: Sequence[str], path: str) -> int:
    if not parts or ".." in parts or "\0" in path:
        raise _not_there(path, "not the name of a file")
    try:
        with _directory(folder) as at:
            for part in parts[:-1]:
                below = os.open(part, _DIRECTORY, dir_fd=at[-1])
                at.append(below)
            descriptor = os.open(parts[-1], _FILE, dir_fd=at[-1])
    except OSError as exc:
        raise _not_there(path, exc.strerror or type(exc).__name__) from exc
    except UnicodeEncodeError as exc:
        raise _not_there(path, "no name that a file can have") from exc
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_there(path, "not a regular file")
    return descriptor


@contextmanager
def _directory(folder: Path) -> Iterator[list[int]]:
    """Yield the open folder, in a list of all that is to be closed."""
    at = [os.open(folder, _DIRECTORY)]
    try:
        yield at
    finally:
        for each in at:
            os.close(each)


def _not_there(path: str, why: str) -> ProblemError:
    # A link is told by the system as "too many levels of symbolic links", or as no folder.
    return ProblemError(
        HTTPStatus.NOT_FOUND,
        f"{PATH}: {encodable(path)[:200]!r}: {why} (accepted: a file in a folder of those named, "
        "by a path without links)",
    )


def _signature_of(descriptor: int) -> tuple[int, int, int]:
    found = os.fstat(descriptor)
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns
