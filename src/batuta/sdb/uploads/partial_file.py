"""The bytes of an upload that may be resumed: in a file that outlives the process.

A state of SHA-256 cannot be kept outside of a process: hashlib does not give it. So it is kept in
memory from one request to the next, and the part that is on the disk is hashed again by a process
that did not receive it.
"""

import fcntl
import hashlib
import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from batuta.durable_folders import sync_folder
from batuta.sdb.store import WRITEBACK_BYTES, file_errors, start_writeback, write_all
from batuta.service.bodies import Chunk

SUFFIX: Final = ".upload"
READ_BYTES: Final = 2**20


class PartialFile:
    """A file that is received in parts, open and locked.

    Its methods block on the disk: call them in a thread.

    Parameters
    ----------
    path : Path
        Created if there is none.
    hashed : HashedPart, optional
        What was hashed of it before.

    Raises
    ------
    BlockingIOError
        If another process has it open.
    """

    def __init__(self, path: Path, hashed: "HashedPart | None" = None) -> None:
        self.path = path
        self._descriptor = _open_locked(path)
        self.size = os.fstat(self._descriptor).st_size
        known = hashed is not None and hashed.size <= self.size
        self._hashed = hashed if known and hashed is not None else HashedPart()
        self._written_back = self.size

    @property
    def sha256(self) -> str:
        """Its digest, in hexadecimal; reads what was not hashed yet."""
        return self.hash_all().hexdigest()

    @property
    def hashed(self) -> "HashedPart":
        """What was hashed of it, to be given to whoever opens it next."""
        return self._hashed

    def hash_all(self) -> "hashlib._Hash":
        """Hash what was not hashed yet, in steps that are kept if this ends early."""
        part, buffer = self._hashed, memoryview(bytearray(READ_BYTES))
        while part.size < self.size:
            want = min(READ_BYTES, self.size - part.size)
            count = os.preadv(self._descriptor, [buffer[:want]], part.size)
            if not count:
                raise OSError(f"{self.path}: shorter than it was")
            part.add(buffer[:count])
        return part.digest

    def truncate(self, size: int) -> None:
        """Forget what is after the first `size` bytes, such as what may not be on the disk."""
        if size >= self.size:
            return
        os.ftruncate(self._descriptor, size)
        self.size = self._written_back = size
        if self._hashed.size > size:
            self._hashed = HashedPart()

    def truncate_to(self, size: int, hashed: "HashedPart") -> None:
        """Go back to what it was, with what was hashed then."""
        self.truncate(size)
        self._hashed = hashed

    def write(self, pieces: Iterable[Chunk]) -> None:
        """Append the next `pieces`."""
        for piece in pieces:
            view = memoryview(piece)
            os.lseek(self._descriptor, self.size, os.SEEK_SET)
            write_all(self._descriptor, view)
            if self._hashed.size == self.size:
                self._hashed.add(view)
            self.size += len(view)
        if self.size - self._written_back >= WRITEBACK_BYTES:
            start_writeback(self._descriptor, self._written_back, self.size)
            self._written_back = self.size

    def read(self) -> bytes:
        """Return all of it."""
        return os.pread(self._descriptor, self.size, 0)

    def sync(self) -> None:
        """Flush all of it to the disk (fsync)."""
        os.fsync(self._descriptor)

    def move_to(self, target: Path) -> None:
        """Link it into the store under a second name, replacing what is there.

        It keeps its own until its record is committed, so that a process that dies between the two
        has lost nothing. No more is ever written to it, as it is complete.
        """
        second = self.path.with_name(f"{uuid.uuid4().hex}.part")
        try:
            second.hardlink_to(self.path)
        except OSError:  # a file system without links: then what was lost is sent again
            self.path.replace(target)
            return
        second.replace(target)
        # Where the target is this file already, renaming leaves both names, as POSIX has it.
        second.unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete its name."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close and unlock it."""
        os.close(self._descriptor)


class HashedPart:
    """The beginning of a file, by its digest."""

    def __init__(self) -> None:
        self.size = 0
        self.digest = hashlib.sha256()

    def add(self, piece: memoryview) -> None:
        """Add what follows."""
        self.digest.update(piece)
        self.size += len(piece)

    def copy(self) -> "HashedPart":
        """Return what was hashed until now."""
        other = HashedPart()
        other.size, other.digest = self.size, self.digest.copy()
        return other


def open_partial(folder: Path, name: str, hashed: HashedPart | None) -> PartialFile:
    """Open the file of an upload.

    Raises
    ------
    StoreError
        If it cannot be opened; because of `BlockingIOError`, if another process has it open.
    """
    with file_errors():
        return PartialFile(upload_path(folder, name), hashed)


def upload_path(folder: Path, name: str) -> Path:
    """Return where the bytes of an upload are; `name` is one of ours."""
    return folder / f"{name}{SUFFIX}"


def upload_files(folder: Path) -> dict[str, Path]:
    """Return the files of uploads in a folder, by the names of these."""
    return {path.name.removesuffix(SUFFIX): path for path in folder.glob(f"*{SUFFIX}")}


def _open_locked(path: Path) -> int:
    while True:
        is_new = not path.exists()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between open and flock, another process may have found it expired and unlinked it.
            if os.fstat(descriptor).st_nlink:
                if is_new:
                    sync_folder(path.parent)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
