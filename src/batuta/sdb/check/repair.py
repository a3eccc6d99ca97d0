"""Mends bytes that are missing or wrong from a copy that has the right ones."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from batuta.sdb.check.objects import StoredObjects
from batuta.sdb.check.recorded import replace_small_file
from batuta.sdb.settings import MAX_SMALL_FILE_BYTES
from batuta.sdb.store import LostObjectError, ProductStore, StoreError, file_errors


@dataclass(frozen=True)
class Outcome:
    """Whether it was mended, and what to say of it."""

    mended: bool
    text: str


class UnreadableObjectError(StoreError):
    """The source has an object that cannot be read."""


class Repairer:
    """Copies what is right in another store.

    Parameters
    ----------
    source : StoredObjects
        The other store.
    store : ProductStore
        The store to mend.
    engine : sqlalchemy.Engine
        The database, with the small files.
    """

    def __init__(self, source: StoredObjects, store: ProductStore, engine: sa.Engine) -> None:
        self._source = source
        self._store = store
        self._engine = engine

    def repair(self, sha256: str, size: int, *, in_database: bool = False) -> Outcome:
        """Replace the bytes of a digest, if the other store has them. It blocks.

        Raises
        ------
        StoreError
            If they cannot be written.
        """
        mend = self._mend_small_file if in_database else self._mend_object
        try:
            right = mend(sha256, size)
        except LostObjectError:
            return Outcome(False, f"{self._source.url} has no copy")
        except UnreadableObjectError as exc:
            return Outcome(False, f"{self._source.url}: {exc}")
        if not right:
            return Outcome(False, f"{self._source.url} has other bytes, too")
        return Outcome(True, f"repaired from {self._source.url}")

    def _mend_object(self, sha256: str, size: int) -> bool:
        return copy_object(self._source, self._store, sha256, size) is None

    def _mend_small_file(self, sha256: str, size: int) -> bool:
        with _reading_source():
            found = self._source.find(sha256)
            if found is None:
                raise LostObjectError(f"{sha256}: not found")
            if found.size != size or size > MAX_SMALL_FILE_BYTES:
                return False
            content = b"".join(map(bytes, self._source.chunks(sha256)))
        if hashlib.sha256(content).hexdigest() != sha256:
            return False
        replace_small_file(self._engine, sha256, content)
        return True


def copy_object(
    source: StoredObjects, store: ProductStore, sha256: str, size: int
) -> tuple[int, str] | None:
    """Copy the bytes of a digest to another store, if they are right.

    Returns
    -------
    tuple or None
        The size and the digest that the source has, if they are others: nothing was stored.

    Raises
    ------
    LostObjectError
        If the source has no such object.
    UnreadableObjectError
        If it has one that cannot be read.
    StoreError
        If the other store cannot be written.
    """
    upload = store.receive()
    try:
        for chunk in _readable(source, sha256):
            with file_errors():
                upload.write([chunk])
        if (upload.sha256, upload.size) != (sha256, size):
            return upload.size, upload.sha256
        store.put(upload)
    finally:
        upload.close()
    return None


def _readable(source: StoredObjects, sha256: str) -> Iterator[memoryview]:
    with _reading_source():
        yield from source.chunks(sha256)


@contextmanager
def _reading_source() -> Iterator[None]:
    try:
        yield
    except LostObjectError:
        raise
    except StoreError as exc:
        raise UnreadableObjectError(str(exc)) from exc
