"""Where the bytes of products are: under their SHA-256, in a folder or in a bucket.

An upload is received into a file of its own, hashed as it comes, and enters the store once it
is whole and its digest is right. Bytes that no record names are harmless.
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

WRITE_OUT_BYTES: Final = 8 * 2**20
"""Each time so much has come of a file, the disk is set to work on it."""
READ_BYTES: Final = 2**20
BUCKET_READ_BYTES: Final = 8 * 2**20
"""A bucket answers each read after a while: larger ones are fewer."""
PART_BYTES: Final = 128 * 2**20
"""Size of the parts that a file is sent to a bucket in; it takes at most 10,000 of them."""


class StoreError(BatutaError):
    """The store cannot be read, or cannot be written."""


class Upload:
    """A file being received: written under a name of its own, and hashed as it comes.

    Its methods wait for the disk: call them in a thread.
    """

    def __init__(self, folder: Path) -> None:
        self.path, self._descriptor = _create_locked(folder)
        self._hash = hashlib.sha256()
        self.size = 0
        self.closed = False
        self._written_out = 0

    @property
    def sha256(self) -> str:
        """Digest of what has come so far, in hexadecimal."""
        return self._hash.hexdigest()

    def write(self, pieces: Iterable[bytes]) -> None:
        """Take the next `pieces` of the file."""
        for piece in pieces:
            self._hash.update(piece)
            self.size += len(piece)
            _write_all(self._descriptor, piece)
        if self.size - self._written_out >= WRITE_OUT_BYTES:
            _write_out(self._descriptor, self._written_out, self.size)
            self._written_out = self.size

    def sync(self) -> None:
        """Return once the disk has all of it."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Remove the file, unless the store has taken it."""
        self.closed = True
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)


class Store(Protocol):
    """Where bytes are kept under their SHA-256."""

    def receive(self) -> Upload:
        """Begin to receive a file."""

    def keep(self, upload: Upload) -> None:
        """Take the file received, durably, under its digest."""

    def read(self, sha256: str, start: int, stop: int) -> AsyncIterator[memoryview]:
        """Return the bytes ``[start, stop)`` of what has that digest, a piece at a time."""


class FolderStore:
    """A folder of this machine, or one that several machines share.

    Parameters
    ----------
    folder : Path
        It is created where it is missing, for this user alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        _make_folder(self._incoming)
        remove_abandoned(self._incoming)
        _make_digest_folders(folder / "sha256")
        self._objects = LocalStore(folder)

    def receive(self) -> Upload:
        """Begin to receive a file."""
        return Upload(self._incoming)

    def keep(self, upload: Upload) -> None:
        """Take the file received: on the disk, and its name too, before this returns."""
        upload.sync()
        target = self._folder / object_path(upload.sha256)
        # Over the same bytes, if they are there: whoever reads them reads on.
        upload.path.replace(target)
        _sync_folder(target.parent)

    def read(self, sha256: str, start: int, stop: int) -> AsyncIterator[memoryview]:
        """Return the bytes ``[start, stop)`` of what has that digest, a piece at a time."""
        return _read(self._objects, sha256, range(start, stop, READ_BYTES), stop)


class BucketStore:
    """A bucket: S3 and what speaks like it, Google's, Azure's.

    A file is received in a folder of this machine and sent once its digest is known to be
    right, so that the bucket never holds an object under a wrong name.

    Parameters
    ----------
    url : str
        ``s3://bucket/prefix``; credentials and region come from the environment, as
        each provider's own tools take them.
    scratch : Path
        The folder that files are received in.
    """

    def __init__(self, url: str, scratch: Path) -> None:
        self._scratch = scratch
        _make_folder(scratch)
        remove_abandoned(scratch)
        self._objects: ObjectStore = _open_bucket(url)

    def receive(self) -> Upload:
        """Begin to receive a file."""
        return Upload(self._scratch)

    def keep(self, upload: Upload) -> None:
        """Send the file received, and return once the bucket has it."""
        with _storing(upload.sha256):
            obstore.put(
                self._objects, object_path(upload.sha256), upload.path, chunk_size=PART_BYTES
            )

    def read(self, sha256: str, start: int, stop: int) -> AsyncIterator[memoryview]:
        """Return the bytes ``[start, stop)`` of what has that digest, a piece at a time."""
        return _read(self._objects, sha256, range(start, stop, BUCKET_READ_BYTES), stop)


def open_store(settings: SdbSettings) -> Store:
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
    """Name of an object in the store."""
    return f"sha256/{sha256[:2]}/{sha256[2:]}"


def remove_abandoned(folder: Path) -> None:
    """Remove the uploads in `folder` that no process is receiving any more."""
    for path in folder.glob("*.part"):
        with _opened(path) as descriptor:
            if descriptor is not None and _locked(descriptor):
                path.unlink(missing_ok=True)
                LOG.info("%s: removed; whoever was receiving it has died", path)


def _create_locked(folder: Path) -> tuple[Path, int]:
    while True:
        path = folder / f"{uuid.uuid4().hex}.part"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # A process that started just then may have found it unlocked and removed it.
        if os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_all(descriptor: int, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _write_out(descriptor: int, start: int, stop: int) -> None:
    """Have the disk write those bytes while the rest comes: the sync at the end is shorter."""
    if sys.platform == "linux":
        # It starts the writing and does not wait; bytes not written yet stay in memory.
        os.posix_fadvise(descriptor, start, stop - start, os.POSIX_FADV_DONTNEED)


def _make_folder(folder: Path) -> None:
    """Create `folder` and what is above it, and return once the disk has their names."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    _sync_folder(folder.parent)


def _make_digest_folders(folder: Path) -> None:
    """Create all of them once, rather than one and its sync at each import."""
    _make_folder(folder)
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
        with _storing(sha256):
            piece = await obstore.get_range_async(
                objects, object_path(sha256), start=start, end=min(start + starts.step, stop)
            )
        yield memoryview(piece)


@contextmanager
def _storing(sha256: str) -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError, ValueError) as exc:
        raise StoreError(f"store: {object_path(sha256)}: {exc}") from exc
