"""The objects of a store, as a check sees them: listed, hashed, set aside and put back."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import obstore
from obstore.store import LocalStore, ObjectStore

from batuta.buckets import open_bucket
from batuta.errors import ConfigurationError
from batuta.private_files import PRIVATE_FOLDER
from batuta.sdb.check.recorded import PREFIXES
from batuta.sdb.settings import ACCEPTED, BUCKET_SCHEMES, store_folder
from batuta.sdb.store import (
    BUCKET_READ_BYTES,
    READ_BYTES,
    LostObjectError,
    StoreError,
    file_errors,
    object_errors,
    object_path,
)

if TYPE_CHECKING:
    from obstore import ObjectMeta

ASIDE: Final = "collected"
"""Where files go that no record names, until they are deleted."""
_DIGESTS: Final = "sha256"
_REST: Final = re.compile(r"[0-9a-f]{62}")
_ASIDE_NAME: Final = re.compile(r"([0-9a-f]{62})\.(\d{8}T\d{6}\.\d{6}Z)")
_TIME: Final = "%Y%m%dT%H%M%S.%fZ"


@dataclass(frozen=True)
class StoredObject:
    """An object of a store; `etag` changes when it is replaced."""

    path: str
    size: int
    modified: datetime
    etag: str | None


@dataclass(frozen=True)
class AsideObject:
    """An object that was set aside, and when."""

    path: str
    sha256: str
    since: datetime


class StoredObjects:
    """The objects of a folder or a bucket.

    Parameters
    ----------
    store : obstore.store.ObjectStore
        The folder or bucket.
    url : str
        What messages call it.
    folder : Path or None
        The folder, where it is one: hashed without a library between.
    """

    def __init__(self, store: ObjectStore, url: str, folder: Path | None) -> None:
        self._store = store
        self.url = url
        self._folder = folder
        # As they were first asked for: a bucket takes its time for each that is listed in vain.
        self._folders: dict[str, set[str]] = {}

    @property
    def is_folder(self) -> bool:
        """Whether they are files of this machine."""
        return self._folder is not None

    def with_prefix(self, prefix: str) -> tuple[dict[str, StoredObject], list[str]]:
        """Return the objects whose digests begin with `prefix`, and the paths of what is none."""
        found, foreign = {}, []
        for each in self._list(_DIGESTS, prefix):
            rest = each.path.removeprefix(f"{_DIGESTS}/{prefix}/")
            if _REST.fullmatch(rest):
                found[prefix + rest] = each
            else:
                foreign.append(each.path)
        return found, foreign

    def foreign(self) -> list[str]:
        """Return what is beside the folders of digests."""
        with object_errors(_DIGESTS):
            listed = obstore.list_with_delimiter(self._store, _DIGESTS)
        folders = (path for path in listed["common_prefixes"] if path[-2:] not in PREFIXES)
        return [*folders, *(each["path"] for each in listed["objects"])]

    def find(self, sha256: str) -> StoredObject | None:
        """Return the object of a digest; None if there is none."""
        path = object_path(sha256)
        try:
            with object_errors(path):
                return _object(obstore.head(self._store, path))
        except LostObjectError:
            return None

    def chunks(self, sha256: str) -> Iterator[memoryview]:
        """Yield the bytes of an object; a chunk may be used until the next. It blocks.

        Raises
        ------
        LostObjectError
            If there is none.
        StoreError
            If it cannot be read.
        """
        path = object_path(sha256)
        if self._folder is not None:
            try:
                with file_errors():
                    yield from _chunks_of(self._folder / path)
            except StoreError as exc:
                if isinstance(exc.__cause__, FileNotFoundError):
                    raise LostObjectError(f"{path}: not found") from exc
                raise
            return
        with object_errors(path):
            for chunk in obstore.get(self._store, path).stream(min_chunk_size=BUCKET_READ_BYTES):
                yield memoryview(chunk)

    def set_aside(self, sha256: str, listed: StoredObject) -> bool:
        """Move an object to where none is looked for, unless it was replaced since it was listed.

        An import may replace it still: its bytes, being of the same digest, are those that were
        set aside then, and are put back as a record names them.
        """
        found = self.find(sha256)
        if found is None or (found.etag, found.modified) != (listed.etag, listed.modified):
            return False
        if self._folder is not None:
            with file_errors():
                (self._folder / ASIDE).mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        target = f"{ASIDE}/{sha256[:2]}/{sha256[2:]}.{datetime.now(UTC).strftime(_TIME)}"
        with object_errors(found.path):
            obstore.rename(self._store, found.path, target)
        self._folders_of(ASIDE).add(sha256[:2])
        return True

    def aside(self, prefix: str) -> list[AsideObject]:
        """Return what was set aside of the digests that begin with `prefix`."""
        found = []
        for each in self._list(ASIDE, prefix):
            name = _ASIDE_NAME.fullmatch(each.path.rpartition("/")[2])
            if name is not None:
                since = datetime.strptime(name[2], _TIME).replace(tzinfo=UTC)
                found.append(AsideObject(each.path, prefix + name[1], since))
        return found

    def put_back(self, aside: AsideObject) -> None:
        """Move an object back to where it was."""
        with object_errors(aside.path):
            obstore.rename(self._store, aside.path, object_path(aside.sha256))

    def delete(self, path: str) -> None:
        """Delete an object for good."""
        with object_errors(path):
            obstore.delete(self._store, path)

    def _list(self, root: str, prefix: str) -> Iterator[StoredObject]:
        if prefix not in self._folders_of(root):
            return
        path = f"{root}/{prefix}"
        with object_errors(path):
            for page in obstore.list(self._store, prefix=path):
                yield from map(_object, page)

    def _folders_of(self, root: str) -> set[str]:
        if root not in self._folders:
            with object_errors(root):
                listed = obstore.list_with_delimiter(self._store, root)
            self._folders[root] = {path[-2:] for path in listed["common_prefixes"]}
        return self._folders[root]


def open_objects(url: str, option: str) -> StoredObjects:
    """Return the objects of the store at `url`; nothing is created.

    Raises
    ------
    ConfigurationError
        If there is no such store; the message names `option`.
    """
    folder = store_folder(url)
    if folder is None:
        if url.partition("://")[0] not in BUCKET_SCHEMES:
            raise ConfigurationError(f"{option} {url!r}: not a store ({ACCEPTED})")
        return StoredObjects(open_bucket(url, option), url, None)
    if not (folder / _DIGESTS).is_dir():
        raise ConfigurationError(
            f"{option} {url}: no store (accepted: a folder of an sdb, with {_DIGESTS}/ in it)"
        )
    return StoredObjects(LocalStore(folder), url, folder)


def _object(meta: "ObjectMeta") -> StoredObject:
    return StoredObject(meta["path"], meta["size"], meta["last_modified"], meta["e_tag"])


def _chunks_of(path: Path) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(READ_BYTES))
    with path.open("rb", 0) as file:
        while count := file.readinto(buffer):
            yield buffer[:count]
