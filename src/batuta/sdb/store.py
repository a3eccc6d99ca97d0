"""The bytes of products, addressed by their SHA-256, in a folder or in a bucket.

An upload is received into a temporary file, hashed as it comes, and enters the store once it is
complete and its digest is right. Bytes that no record refers to do no harm.

::

    StoreError                  the store cannot be read or written now
    └── DamagedObjectError      it can, but not give back what was stored
        └── LostObjectError     it has no such object
"""

import errno
import fcntl
import hashlib
import logging
import os
import sys
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore

from batuta.buckets import PART_BYTES, is_lost, open_bucket, reason_of
from batuta.durable_folders import create_folder, sync_folder
from batuta.errors import BatutaError, ConfigurationError, one_line
from batuta.private_files import PRIVATE_FOLDER
from batuta.sdb.settings import SdbSettings, store_folder
from batuta.service.bodies import Chunk

LOG: Final = logging.getLogger(__name__)

WRITEBACK_BYTES: Final = 8 * 2**20
"""Writeback is started each time this much more of a file was received."""
READ_BYTES: Final = 2**20
COPY_BYTES: Final = 16 * 2**20
"""What is copied from file to file at once, before it is hashed."""
BUCKET_READ_BYTES: Final = 8 * 2**20
"""Larger than for a folder: each request to a bucket has its latency."""


NO_DIGEST: Final = "0" * 64
"""Looked for, to see whether a store answers; no bytes of this SHA-256 are known."""


INCOMING: Final = "incoming"
"""Where a folder receives uploads."""


class StoreError(BatutaError):
    """The store cannot be read, or cannot be written, now.

    Parameters
    ----------
    message : str
        One line, without the details of a library.
    full : bool
        Whether it is full.
    """

    def __init__(self, message: str, *, full: bool = False) -> None:
        super().__init__(message)
        self.full = full


class DamagedObjectError(StoreError):
    """The store has other bytes than those that were stored under a digest."""


class LostObjectError(DamagedObjectError):
    """The store has no object of a digest that was recorded."""


class Upload:
    """A file being received: written to a temporary file, and hashed as it comes.

    Its methods block on the disk: call them in a thread.
    """

    def __init__(self, folder: Path) -> None:
        self.path, self._descriptor = _create_locked_file(folder)
        self._hash = hashlib.sha256()
        self.size = 0
        self.closed = False
        self._writeback_end = 0

    @property
    def sha256(self) -> str:
        """Digest of what was received so far, in hexadecimal."""
        return self._hash.hexdigest()

    def write(self, pieces: Iterable[Chunk]) -> None:
        """Append the next `pieces` of the file."""
        for piece in pieces:
            view = memoryview(piece)
            self._hash.update(view)
            self.size += len(view)
            write_all(self._descriptor, view)
        if self.size - self._writeback_end >= WRITEBACK_BYTES:
            start_writeback(self._descriptor, self._writeback_end, self.size)
            self._writeback_end = self.size

    def copy_from(self, source: int, size: int) -> None:
        """Append `size` bytes of an open file, or less if that ends before.

        The system copies them: where it can, both files then share their blocks. A part is hashed
        at a time, from memory.
        """
        buffer = memoryview(bytearray(READ_BYTES))
        position = 0
        while position < size:
            count = _copy_range(
                source, self._descriptor, position, min(COPY_BYTES, size - position)
            )
            if not count:
                return
            for start in range(position, position + count, READ_BYTES):
                want = min(READ_BYTES, position + count - start)
                read = os.preadv(self._descriptor, [buffer[:want]], start)
                self._hash.update(buffer[:read])
                self.size += read
            position += count

    def sync(self) -> None:
        """Flush all of it to the disk (fsync)."""
        os.fsync(self._descriptor)

    def move_to(self, target: Path) -> None:
        """Rename the file to its name in the store, replacing what is there."""
        self.path.replace(target)

    def close(self) -> None:
        """Delete the temporary file, unless the store has renamed it."""
        self.closed = True
        try:
            self.path.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)


class SmallFile:
    """A file that was received in memory, to be kept in the database.

    Parameters
    ----------
    content : bytes
        All of it.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size = len(content)
        self.sha256 = hashlib.sha256(content).hexdigest()


class ReceivedFile(Protocol):
    """A file that was received whole, in the folder of the store where files are received."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def sha256(self) -> str:
        """Its digest, in hexadecimal."""

    @property
    def size(self) -> int:
        """How many bytes it has."""

    def sync(self) -> None:
        """Flush all of it to the disk (fsync)."""

    def move_to(self, target: Path) -> None:
        """Rename it to its name in the store, replacing what is there."""


class ProductStore(Protocol):
    """Bytes addressed by their SHA-256."""

    @property
    def incoming(self) -> Path:
        """The folder of this machine that files are received in."""

    def receive(self) -> Upload:
        """Open a temporary file to receive an upload."""

    def put(self, upload: ReceivedFile) -> None:
        """Store a received file durably under its digest."""

    def read(self, sha256: str, start: int, stop: int) -> AsyncIterator[memoryview]:
        """Yield the bytes ``[start, stop)`` of the object with that digest, a chunk at a time."""

    def local_path(self, sha256: str) -> Path | None:
        """Return the file of the object with that digest; None if this machine has none."""

    def problem(self) -> str | None:
        """Return why it cannot be read or written, in one line; None if it can. It blocks."""

    def holds_objects(self) -> bool:
        """Return whether it has any object. It blocks."""


class FolderStore:
    """A folder of this machine, or one that several machines share.

    Parameters
    ----------
    folder : Path
        Created if missing, accessible to this user alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.incoming = folder / INCOMING
        create_folder(self.incoming, PRIVATE_FOLDER)
        remove_abandoned(self.incoming)
        _create_digest_folders(folder / "sha256")
        self._objects = LocalStore(folder)

    def receive(self) -> Upload:
        """Open a temporary file to receive an upload."""
        with file_errors():
            return Upload(self.incoming)

    def put(self, upload: ReceivedFile) -> None:
        """Store a received file; its bytes and its name are on the disk before this returns."""
        target = self._folder / object_path(upload.sha256)
        with file_errors():
            upload.sync()
            # May replace an object of the same digest, so of the same bytes: readers keep theirs.
            upload.move_to(target)
            sync_folder(target.parent)

    def problem(self) -> str | None:
        """Write a small file and delete it; return what prevents that, in one line."""
        try:
            _try_write(self.receive())
            with file_errors():
                (self._folder / object_path(NO_DIGEST)).parent.stat()
        except StoreError as exc:
            return f"{self._folder}: {exc}"
        return None

    def local_path(self, sha256: str) -> Path | None:
        """Return the file of the object with that digest; None if there is none."""
        path = self._folder / object_path(sha256)
        return path if path.is_file() else None

    def holds_objects(self) -> bool:
        """Return whether it has any object."""
        # A file beside the folders, such as one that a desktop has left, is no object. Not by glob:
        # it takes a folder that must not be read for an empty one.
        with file_errors():
            folders = [each for each in (self._folder / "sha256").iterdir() if each.is_dir()]
            return any(any(each.iterdir()) for each in folders)

    def read(self, sha256: str, start: int, stop: int) -> AsyncIterator[memoryview]:
        """Yield the bytes ``[start, stop)`` of the object with that digest, a chunk at a time."""
        return _read(self._objects, sha256, range(start, stop, READ_BYTES), stop)


class BucketStore:
    """A bucket: S3 and compatible stores, Google Cloud Storage, Azure.

    A file is received in a folder of this machine and uploaded once its digest is verified, so
    that the bucket never holds an object under a wrong name.

    Parameters
    ----------
    url : str
        ``s3://bucket/prefix``; credentials and region come from the environment, as
        for the provider's own tools.
    scratch : Path
        The folder that files are received in.
    """

    def __init__(self, url: str, scratch: Path) -> None:
        self.incoming = scratch
        create_folder(scratch, PRIVATE_FOLDER)
        remove_abandoned(scratch)
        self._objects: ObjectStore = open_bucket(url, "--store-url")
        self._put_problem: str | None = None

    def receive(self) -> Upload:
        """Open a temporary file to receive an upload."""
        with file_errors():
            return Upload(self.incoming)

    def put(self, upload: ReceivedFile) -> None:
        """Upload a received file, and return once the bucket has stored it.

        If it fails half-way, the library aborts the multipart upload.
        """
        try:
            with object_errors(object_path(upload.sha256)):
                obstore.put(
                    self._objects, object_path(upload.sha256), upload.path, chunk_size=PART_BYTES
                )
        except StoreError as exc:
            self._put_problem = f"the last upload failed: {exc}"
            raise
        self._put_problem = None

    def problem(self) -> str | None:
        """Ask the bucket for an object that it does not have; return what prevents that.

        An upload that failed is a problem until the next one succeeds: keys may allow to read only.
        """
        try:
            _try_write(self.receive())
            with object_errors(object_path(NO_DIGEST)):
                obstore.get(self._objects, object_path(NO_DIGEST))
        except LostObjectError:
            return self._put_problem
        except StoreError as exc:
            return str(exc)
        return self._put_problem

    def local_path(self, _sha256: str) -> Path | None:
        """Return None: its objects are elsewhere."""
        return None

    def holds_objects(self) -> bool:
        """Return whether it has any object."""
        with object_errors(object_path(NO_DIGEST)):
            found = obstore.list(self._objects, prefix="sha256", chunk_size=1)
            return next(iter(found), None) is not None

    def read(self, sha256: str, start: int, stop: int) -> AsyncIterator[memoryview]:
        """Yield the bytes ``[start, stop)`` of the object with that digest, a chunk at a time."""
        return _read(self._objects, sha256, range(start, stop, BUCKET_READ_BYTES), stop)


def open_store(settings: SdbSettings) -> ProductStore:
    """Open the store that `settings` name.

    Raises
    ------
    ConfigurationError
        If it cannot be opened.
    """
    folder = store_folder(settings.store_url)
    if folder is None:
        return BucketStore(settings.store_url, settings.scratch_folder)
    try:
        return FolderStore(folder)
    except OSError as exc:
        raise ConfigurationError(f"--store-url {settings.store_url}: {one_line(exc)}") from exc


def object_path(sha256: str) -> str:
    """Return the name of an object in the store."""
    return f"sha256/{sha256[:2]}/{sha256[2:]}"


def remove_abandoned(folder: Path) -> None:
    """Delete the temporary files in `folder` whose receiving process has died."""
    for path in abandoned_files(folder):
        path.unlink(missing_ok=True)
        LOG.info("%s: deleted an upload whose receiving process has died", path)


def abandoned_files(folder: Path) -> Iterator[Path]:
    """Yield the temporary files in `folder` whose receiving process has died, each locked."""
    for path in folder.glob("*.part"):
        with _open_if_present(path) as descriptor:
            if descriptor is not None and _try_lock(descriptor):
                yield path


def _create_locked_file(folder: Path) -> tuple[Path, int]:
    while True:
        path = folder / f"{uuid.uuid4().hex}.part"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            os.close(descriptor)
            path.unlink()
            raise
        # Between open and flock, another process may have found it unlocked and unlinked it.
        if os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)


@contextmanager
def _open_if_present(path: Path) -> Iterator[int | None]:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _copy_range(source: int, target: int, offset: int, size: int) -> int:
    """Copy bytes at an offset from one file to the end of another; return how many."""
    if sys.platform == "linux":
        try:
            return os.copy_file_range(source, target, size, offset, offset)
        except OSError as exc:
            if exc.errno not in _CANNOT_COPY:
                raise
    piece = os.pread(source, size, offset)
    os.lseek(target, offset, os.SEEK_SET)
    write_all(target, memoryview(piece))
    return len(piece)


def write_all(descriptor: int, rest: memoryview) -> None:
    """Write all of some bytes."""
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def start_writeback(descriptor: int, start: int, stop: int) -> None:
    """Start to write some bytes to the disk now, so that the fsync at the end is short."""
    if sys.platform == "linux":
        # On Linux this starts writeback without waiting; dirty pages stay in the page cache.
        os.posix_fadvise(descriptor, start, stop - start, os.POSIX_FADV_DONTNEED)


def _create_digest_folders(folder: Path) -> None:
    """Create all 256 at once, rather than one, and its fsync, at each import."""
    create_folder(folder, PRIVATE_FOLDER)
    for number in range(256):
        (folder / f"{number:02x}").mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder)


async def _read(
    objects: ObjectStore, sha256: str, starts: range, stop: int
) -> AsyncIterator[memoryview]:
    for start in starts:
        with object_errors(object_path(sha256)):
            end = min(start + starts.step, stop)
            piece = await obstore.get_range_async(
                objects, object_path(sha256), start=start, end=end
            )
        if len(piece) != end - start:
            raise DamagedObjectError(f"{object_path(sha256)}: shorter than was stored")
        yield memoryview(piece)


@contextmanager
def file_errors() -> Iterator[None]:
    """Turn what the system says of the files of a store into a `StoreError`."""
    try:
        yield
    except OSError as exc:
        full = exc.errno in {errno.ENOSPC, errno.EDQUOT}
        raise StoreError(exc.strerror or type(exc).__name__, full=full) from exc


@contextmanager
def object_errors(path: str) -> Iterator[None]:
    """Turn what the library of buckets and folders raises into a `StoreError`."""
    try:
        yield
    except (BaseError, OSError, ValueError) as exc:
        if is_lost(exc):
            raise LostObjectError(f"{path}: not found") from exc
        if any(words in str(exc) for words in _BEYOND_THE_END):
            raise DamagedObjectError(f"{path}: shorter than was stored") from exc
        raise StoreError(f"{path}: {reason_of(exc)}") from exc


def _try_write(upload: Upload) -> None:
    try:
        with file_errors():
            upload.write([bytes(_PROBE_BYTES)])
    finally:
        upload.close()


_BEYOND_THE_END: Final = ("range was invalid", "416 Range Not Satisfiable")
"""How obstore (0.12) and buckets say that an object ends before the range that was asked of it."""
_PROBE_BYTES: Final = 4096
"""A full disk still creates files, but none with a content."""
_CANNOT_COPY: Final = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}
)
"""What copy_file_range(2) says of two files that it does not copy from one to the other."""
