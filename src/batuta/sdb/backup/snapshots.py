"""The snapshots of a backup: the records of an sdb as they were at some moment."""

import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Generic, TypeVar

import obstore
from obstore.store import LocalStore, ObjectStore
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from batuta import __version__
from batuta.buckets import PART_BYTES, open_bucket
from batuta.durable_folders import sync_folder
from batuta.errors import ConfigurationError
from batuta.private_files import PRIVATE_FOLDER, create_private
from batuta.sdb.settings import ACCEPTED, BUCKET_SCHEMES, store_folder
from batuta.sdb.store import (
    BUCKET_READ_BYTES,
    DamagedObjectError,
    LostObjectError,
    file_errors,
    object_errors,
)
from batuta.service.folder_lock import lock_folder

LOG: Final = logging.getLogger(__name__)

FOLDER: Final = "snapshots"
_SCRATCH: Final = ".scratch"
_DRAFT: Final = ".part"
_NAME: Final = re.compile(r"\d{8}T\d{6}\.\d{6}Z\.json")
_DATABASE: Final = re.compile(r"\d{8}T\d{6}\.\d{6}Z\.db")
GRACE: Final = timedelta(days=1)
"""A younger database without a description may be of a run that is about to write that."""
_TIME: Final = "%Y%m%dT%H%M%S.%fZ"
_MAX_DESCRIPTION_BYTES: Final = 2**16


class Snapshot(BaseModel):
    """The description of a snapshot.

    Attributes
    ----------
    taken : datetime
        When its records were read.
    database_sha256 : str
        The digest of the database with the records.
    batuta : str
        The version of Batuta that took it.
    number : int
        Which of the backup it is, in the order in which they were stored: a clock may have been
        ahead. Before it was recorded, 0.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    taken: AwareDatetime
    database_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    batuta: str = __version__
    number: Annotated[int, Field(ge=0)] = 0

    @property
    def name(self) -> str:
        """How its files are named."""
        return self.taken.strftime(_TIME)


class SdbSnapshot(Snapshot):
    """The description of a snapshot of an sdb.

    Attributes
    ----------
    records, files : int
        How many records name bytes, and how many files they name.
    size_bytes : int
        The size of these files together.
    missing : int
        How many of them the backup does not have, since the sdb had lost them.
    """

    records: Annotated[int, Field(ge=0)]
    files: Annotated[int, Field(ge=0)]
    size_bytes: Annotated[int, Field(ge=0)]
    missing: Annotated[int, Field(ge=0)]


S = TypeVar("S", bound=Snapshot)


@dataclass(frozen=True)
class Listed(Generic[S]):
    """What a backup has.

    Attributes
    ----------
    snapshots : list of Snapshot
        The oldest first.
    damaged : dict of str to DamagedObjectError
        What is wrong with those whose descriptions are damaged, by their names.
    """

    snapshots: list[S]
    damaged: dict[str, DamagedObjectError]


class Snapshots(Generic[S]):
    """The snapshots of a backup.

    Parameters
    ----------
    model : type
        What describes them.
    store : obstore.store.ObjectStore
        The backup.
    folder : Path or None
        The same, where it is a folder of this machine.
    """

    def __init__(self, model: type[S], store: ObjectStore, folder: Path | None) -> None:
        self._model = model
        self._store = store
        self._folder = folder

    def list(self) -> Listed[S]:
        """Return all of them: those that are damaged do not hide the others.

        Raises
        ------
        StoreError
            If the backup cannot be read.
        """
        found: list[S] = []
        damaged: dict[str, DamagedObjectError] = {}
        for path in self._paths():
            try:
                found.append(self._read(path))
            except LostObjectError:  # another run has deleted it since it was listed
                continue
            except DamagedObjectError as exc:
                damaged[PurePosixPath(path).stem] = exc
        found.sort(key=lambda each: (each.number, each.taken))
        return Listed(found, damaged)

    def add(self, snapshot: S, database: Path) -> S:
        """Store and return a snapshot, as the newest; its description, which makes it one, last."""
        listed = self.list()
        for damage in listed.damaged.values():  # it does not keep others from being stored
            LOG.warning("%s", damage)
        last = max((each.number for each in listed.snapshots), default=0)
        snapshot = snapshot.model_copy(update={"number": 1 + last})
        self._put_file(f"{snapshot.name}.db", database)
        draft = database.with_suffix(".json")
        draft.write_text(snapshot.model_dump_json(indent=1) + "\n", encoding="utf-8")
        self._put_file(f"{snapshot.name}.json", draft)
        if self._folder is None:
            self._delete_undescribed()
        return snapshot

    def fetch(self, snapshot: S, path: Path) -> None:
        """Write the database of a snapshot to `path`.

        Raises
        ------
        DamagedObjectError
            If it is not as it was stored.
        """
        name = f"{FOLDER}/{snapshot.name}.db"
        digest = hashlib.sha256()
        create_private(path)
        with path.open("wb") as file, object_errors(name):
            for chunk in obstore.get(self._store, name).stream(min_chunk_size=BUCKET_READ_BYTES):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != snapshot.database_sha256:
            raise DamagedObjectError(f"{name}: its bytes have SHA-256 {digest.hexdigest()}")

    def delete_older(self, keep: int) -> int:
        """Delete all but the newest `keep`; return how many were deleted.

        Damaged ones do not count, and stay: their databases may be whole.
        """
        older = self.list().snapshots[:-keep]
        # The descriptions first, without which they are none, also after a loss of power.
        for suffix in ("json", "db"):
            for each in older:
                name = f"{FOLDER}/{each.name}.{suffix}"
                with object_errors(name):
                    obstore.delete(self._store, name)
            if older and self._folder is not None:
                with file_errors():
                    sync_folder(self._folder / FOLDER)
        return len(older)

    def _delete_undescribed(self) -> None:
        """Delete the databases in a bucket that runs have left which were killed.

        Of a folder, `writing` does, as nobody else writes to it meanwhile.
        """
        stored = self._stored()
        # By the clock of the bucket: an object has just been put.
        before = max(stored.values()) - GRACE
        for path, modified in stored.items():
            if not _DATABASE.fullmatch(PurePosixPath(path).name) or modified > before:
                continue
            if str(PurePosixPath(path).with_suffix(".json")) not in stored:
                with object_errors(path):
                    obstore.delete(self._store, path)

    def _paths(self) -> Iterator[str]:
        return (path for path in self._stored() if _NAME.fullmatch(PurePosixPath(path).name))

    def _stored(self) -> dict[str, datetime]:
        """Return when the files of snapshots were written, by their paths."""
        with object_errors(FOLDER):
            listed = obstore.list_with_delimiter(self._store, FOLDER)["objects"]
        return {each["path"]: each["last_modified"] for each in listed}

    def _read(self, path: str) -> S:
        with object_errors(path):
            text = bytes(obstore.get(self._store, path).bytes())
        try:
            return self._model.model_validate_json(text[:_MAX_DESCRIPTION_BYTES])
        except ValidationError as exc:
            raise DamagedObjectError(f"{path}: does not describe a snapshot") from exc

    def _put_file(self, name: str, path: Path) -> None:
        if self._folder is None:
            with object_errors(name):
                obstore.put(self._store, f"{FOLDER}/{name}", path, chunk_size=PART_BYTES)
            return
        folder = self._folder / FOLDER
        with file_errors():
            folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
            draft = folder / f".{name}{_DRAFT}"
            try:
                _copy_durably(path, draft)
                draft.replace(folder / name)
            finally:
                # Of a full disk, it would keep what the next run needs.
                draft.unlink(missing_ok=True)
            sync_folder(folder)
            sync_folder(self._folder)


def open_snapshots(url: str, name: str, model: type[S]) -> Snapshots[S]:
    """Return the snapshots of the backup at `url`, as `model` describes them; nothing is created.

    Raises
    ------
    ConfigurationError
        If there can be no such backup; the message calls it `name`.
    """
    folder = store_folder(url)
    if folder is not None:
        if not folder.is_dir():
            raise ConfigurationError(f"{name} {url}: no such folder")
        return Snapshots(model, LocalStore(folder), folder)
    if url.partition("://")[0] not in BUCKET_SCHEMES:
        raise ConfigurationError(f"{name} {url!r}: no place for a backup ({ACCEPTED})")
    return Snapshots(model, open_bucket(url, name), None)


@contextmanager
def writing(url: str) -> Iterator[Path]:
    """Make the place of a backup, where it is a folder, and let nobody else write to it meanwhile.

    Yields
    ------
    Path
        A folder for files under way, on the disk of the backup: a database may be too large for
        that of temporary files. What a run that was killed has left there is removed.

    Raises
    ------
    ConfigurationError
        If another run is writing to it.
    """
    folder = store_folder(url)
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    with lock_folder(folder, f"DESTINATION {url}: another backup is being written to it"):
        scratch = folder / _SCRATCH
        if scratch.exists():
            shutil.rmtree(scratch)
        _remove_leftovers(folder / FOLDER)
        scratch.mkdir(mode=PRIVATE_FOLDER)
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch)


def _remove_leftovers(snapshots: Path) -> None:
    """Remove what runs have left that were killed, or found the disk full: copies of databases.

    Nobody else writes meanwhile. A database without its description is no snapshot.
    """
    left = [*snapshots.glob(f".*{_DRAFT}")]
    left += [each for each in snapshots.glob("*.db") if not each.with_suffix(".json").exists()]
    for each in left:
        each.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def latest(snapshots: Snapshots[S], source: str, at: datetime | None) -> S:
    """Return the newest of `snapshots` that was taken by `at`.

    Raises
    ------
    ConfigurationError
        If there is none; the message calls the backup `source`.
    DamagedObjectError
        If one that may be newer is damaged: an older one is taken only if `at` says so.
    """
    listed = snapshots.list()
    taken = [each for each in listed.snapshots if at is None or each.taken <= at]
    by = at.astimezone(UTC).strftime(_TIME) if at else ""
    after = taken[-1].name if taken else ""
    newer = [name for name in listed.damaged if name > after and (not by or name <= by)]
    if newer:
        damage = listed.damaged[max(newer)]
        instead = f" (an older one: --at {taken[-1].taken.isoformat()})" if taken else ""
        raise DamagedObjectError(f"{damage}{instead}")
    if not taken:
        taken_by = f" taken by {at.isoformat()}" if at else ""
        raise ConfigurationError(f"SOURCE {source}: no snapshot{taken_by}")
    return taken[-1]


def _copy_durably(path: Path, draft: Path) -> None:
    draft.unlink(missing_ok=True)
    create_private(draft)
    with path.open("rb") as source, draft.open("wb") as target:
        while chunk := source.read(BUCKET_READ_BYTES):
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
