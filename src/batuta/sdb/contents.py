"""The bytes of products and quicklooks: small ones in the database, the others in the store."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from batuta.sdb.settings import MAX_SMALL_FILE_BYTES
from batuta.sdb.store import ProductStore, SmallFile, Upload, file_errors
from batuta.sdb.tables import CONTENTS
from batuta.service.database import reading
from batuta.service.threads import ended_in_thread

_SELECT_CONTENT: Final = sa.select(CONTENTS.c.content).where(
    CONTENTS.c.sha256 == sa.bindparam("of_sha256")
)


class Recorded(Protocol):
    """What has a record: a product, or a quicklook."""

    @property
    def sha256(self) -> str:
        """The digest of its bytes, in hexadecimal."""

    @property
    def size(self) -> int:
        """How many there are."""


@dataclass(frozen=True, kw_only=True)
class KeptBytes:
    """Bytes that are in the store, unless they are its `content`, to be committed with a record."""

    sha256: str
    size: int
    content: bytes | None


class Contents:
    """Reads and keeps bytes, wherever they are.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The database.
    store : ProductStore
        Where larger files are, and small ones that were imported under another setting.
    small_file_bytes : int
        What is kept in the database: files up to this size.
    """

    def __init__(self, engine: sa.Engine, store: ProductStore, small_file_bytes: int) -> None:
        self._engine = engine
        self._store = store
        self._small_file_bytes = small_file_bytes

    def describe(self, content: bytes) -> KeptBytes:
        """Return what a record says of bytes, with their content if that is to be committed too."""
        small = SmallFile(content)
        is_small = len(content) <= self._small_file_bytes
        return KeptBytes(
            sha256=small.sha256, size=small.size, content=content if is_small else None
        )

    def keep(self, content: bytes) -> KeptBytes:
        """Store bytes durably, unless they are to be committed with their record. It blocks.

        Raises
        ------
        StoreError
            If the store cannot write them.
        """
        kept = self.describe(content)
        if kept.content is None:
            self.store(content)
        return kept

    def store(self, content: bytes) -> None:
        """Store bytes durably; as `keep`, whatever their size."""
        with self._receiving() as upload:
            with file_errors():
                upload.write([content])
            self._store.put(upload)

    async def read(self, stored: Recorded, start: int, stop: int) -> AsyncIterator[memoryview]:
        """Yield the bytes ``[start, stop)`` of a product, a chunk at a time.

        Raises
        ------
        StoreError
            If the store cannot read them, or has lost them.
        """
        if stored.size <= MAX_SMALL_FILE_BYTES:
            content = await run_in_threadpool(self._small, stored.sha256)
            if content is not None:
                yield memoryview(content)[start:stop]
                return
        async for piece in self._store.read(stored.sha256, start, stop):
            yield piece

    async def read_all(self, stored: Recorded, stop: int | None = None) -> bytes:
        """Return all bytes, or those before `stop`; raises as `read`."""
        end = stored.size if stop is None else min(stop, stored.size)
        return b"".join([bytes(piece) async for piece in self.read(stored, 0, end)])

    async def digest(self, stored: Recorded) -> str:
        """Return the SHA-256 that all bytes have now, in hexadecimal; raises as `read`."""
        digest = hashlib.sha256()
        async for piece in self.read(stored, 0, stored.size):
            # In a thread: hashing releases Python's lock, and a chunk takes about a millisecond.
            await run_in_threadpool(digest.update, piece)
        return digest.hexdigest()

    def path_in_store(self, stored: Recorded) -> Path | None:
        """Return the file that has exactly these bytes, if there is one on this machine."""
        return self._store.local_path(stored.sha256)

    @asynccontextmanager
    async def as_file(self, stored: Recorded) -> AsyncIterator[Path]:
        """Yield a file to be read alone: that of the store, or a copy that is deleted at the end.

        Raises
        ------
        StoreError
            If the store cannot read the bytes, or the copy cannot be written.
        """
        path = await run_in_threadpool(self.path_in_store, stored)
        if path is not None:
            yield path
            return
        # As an upload, it is deleted at the next start of an sdb that is killed.
        upload = await run_in_threadpool(self._store.receive)
        try:
            async for piece in self.read(stored, 0, stored.size):
                await ended_in_thread(_append, upload, piece)
            yield upload.path
        finally:
            await run_in_threadpool(upload.close)

    @contextmanager
    def _receiving(self) -> Iterator[Upload]:
        upload = self._store.receive()
        try:
            yield upload
        finally:
            upload.close()

    def _small(self, sha256: str) -> bytes | None:
        with reading(self._engine) as connection:
            return connection.scalar(_SELECT_CONTENT, {"of_sha256": sha256})


def _append(upload: Upload, piece: memoryview) -> None:
    with file_errors():
        upload.write([piece])
