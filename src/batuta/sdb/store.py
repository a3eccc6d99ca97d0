"""The bytes of products, addressed by their SHA-256, in a folder or in a bucket.

An upload is received into a temporary file, hashed as it comes, and enters the store once it is
complete and its digest is right. Bytes that no record refers to do no harm.
"""

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
from obstore.store import LocalStore, ObjectStore, from_url

from batuta.errors import BatutaError, ConfigurationError
from batuta.sdb.settings import SdbSettings, store_folder

LOG: Final = logging.getLogger(__name__)

WRITEBACK_BYTES: Final = 8 * 2**20
"""Writeback is started each time this much more of a file was received."""
READ_BYTES: Final = 2**20
BUCKET_READ_BYTES: Final = 8 * 2**20
"""Larger than for a folder: each request to a bucket has its latency."""
PART_BYTES: Final = 128 * 2**20
"""Part size of a multipart upload to a bucket, which accepts at most 10,000 parts."""


class StoreError(BatutaError):
    """The store cannot be read, or cannot be written."""


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

    def write(self, pieces: Iterable[bytes]) -> None:
        """Append the next `pieces` of the file."""
        for piece in pieces:
            self._hash.update(piece)
            self.size += len(piece)
            _write_all(self._descriptor, piece)
        if self.size - self._writeback_end >= WRITEBACK_BYTES:
            _start_writeback(self._descriptor, self._writeback_end, self.size)
            self._writeback_end = self.size

    def sync(self) -> None:
        """Flush all of it to the disk (fsync)."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Delete the temporary file, unless the store has renamed it."""
        self.closed = True
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)


class ProductStore(Protocol):
    """Bytes addressed by their SHA-256."""

    def receive(self) -> Upload:
        """Open a temporary file to receive an upload."""

    def put(self, upload: Upload) -> None:
        """Store a received file durably under its digest."""

    def read(self, sha256: str, start: int, stop: int) -> AsyncIterator[memoryview]:
        """Yield the bytes ``[start, stop)`` of the object with that digest, a chunk at a time."""


class FolderStore:
    """A folder of this machine, or one that several machines share.

    Parameters
    ----------
    folder : Path
        Created if missing, accessible to this user alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        _create_folder(self._incoming)
        remove_abandoned(self._incoming)
        _create_digest_folders(folder / "sha256")
        self._objects = LocalStore(folder)

    def receive(self) -> Upload:
        """Open a temporary file to receive an upload."""
        return Upload(self._incoming)

    def put(self, upload: Upload) -> None:
        """Store a received file; its bytes and its name are on the disk before this returns."""
        upload.sync()
        target = self._folder / object_path(upload.sha256)
        # May replace an object of the same digest, so of the same bytes: readers keep the old one.
        upload.path.replace(target)
        _sync_folder(target.parent)

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
        self._scratch = scratch
        _create_folder(scratch)
        remove_abandoned(scratch)
        self._objects: ObjectStore = _open_bucket(url)

    def receive(self) -> Upload:
        """Open a temporary file to receive an upload."""
        return Upload(self._scratch)

    def put(self, upload: Upload) -> None:
        """Upload a received file, and return once the bucket has stored it."""
        with _store_errors(upload.sha256):
            obstore.put(
                self._objects, object_path(upload.sha256), upload.path, chunk_size=PART_BYTES
            )

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
        raise ConfigurationError(f"--store-url {settings.store_url}: {exc}") from exc


def object_path(sha256: str) -> str:
    """Return the name of an object in the store."""
    return f"sha256/{sha256[:2]}/{sha256[2:]}"


def remove_abandoned(folder: Path) -> None:
    """Delete the temporary files in `folder` whose receiving process has died."""
    for path in folder.glob("*.part"):
        with _open_if_present(path) as descriptor:
            if descriptor is not None and _try_lock(descriptor):
                path.unlink(missing_ok=True)
                LOG.info("%s: deleted an upload whose receiving process has died", path)


def _create_locked_file(folder: Path) -> tuple[Path, int]:
    while True:
        path = folder / f"{uuid.uuid4().hex}.part"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
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


def _write_all(descriptor: int, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _start_writeback(descriptor: int, start: int, stop: int) -> None:
    """Start writing those bytes to the disk now, so that the fsync at the end is short."""
    if sys.platform == "linux":
        # On Linux this starts writeback without waiting; dirty pages stay in the page cache.
        os.posix_fadvise(descriptor, start, stop - start, os.POSIX_FADV_DONTNEED)


def _create_folder(folder: Path) -> None:
    """Create `folder` and its parents, and return once their names are on the disk."""
    if folder.is_dir():
        return
    _create_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    _sync_folder(folder.parent)


def _create_digest_folders(folder: Path) -> None:
    """Create all 256 at once, rather than one, and its fsync, at each import."""
    _create_folder(folder)
    for number in range(256):
        (folder / f"{number:02x}").mkdir(mode=0o700, exist_ok=True)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_bucket(url: str) -> ObjectStore:
    try:
        return from_url(url)
    except (BaseError, ValueError) as exc:
        raise ConfigurationError(f"--store-url {url}: {exc}") from exc


async def _read(
    objects: ObjectStore, sha256: str, starts: range, stop: int
) -> AsyncIterator[memoryview]:
    for start in starts:
        with _store_errors(sha256):
            piece = await obstore.get_range_async(
                objects, object_path(sha256), start=start, end=min(start + starts.step, stop)
            )
        yield memoryview(piece)


@contextmanager
def _store_errors(sha256: str) -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError, ValueError) as exc:
        raise StoreError(f"store: {object_path(sha256)}: {exc}") from exc
