"""Takes a snapshot of an sdb: its records first, then the bytes that they name."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from batuta.errors import ConfigurationError
from batuta.sdb.backup.copying import CopySummary, FileCopier
from batuta.sdb.backup.snapshots import (
    SdbSnapshot,
    Snapshots,
    file_digest,
    open_snapshots,
    writing,
)
from batuta.sdb.check.check import GRACE_S
from batuta.sdb.check.findings import Finding
from batuta.sdb.check.objects import StoredObjects, open_objects
from batuta.sdb.check.recorded import PREFIXES, read_records
from batuta.sdb.settings import SdbSettings, store_folder
from batuta.sdb.store import open_store
from batuta.sdb.tables import METADATA, MIGRATIONS
from batuta.service.database import open_database
from batuta.service.database_copy import copy_to_sqlite, require_database
from batuta.validation import validated


@dataclass(frozen=True, kw_only=True)
class BackupOptions:
    """What a backup does.

    Attributes
    ----------
    destination : str
        A folder, or ``s3://bucket/prefix``.
    keep : int or None
        How many snapshots stay there; by default all.
    threads : int or None
        How many files are copied at a time; by default one per core and 4 at least, with a
        bucket 16.
    """

    destination: str
    keep: int | None = None
    threads: int | None = None


@dataclass(frozen=True)
class BackupResult:
    """What a backup has done.

    Attributes
    ----------
    snapshot : SdbSnapshot
        The one that was taken.
    copied : CopySummary
        The files that it names.
    deleted_snapshots, deleted : int
        How many older snapshots were deleted, and how many files that no other names.
    """

    snapshot: SdbSnapshot
    copied: CopySummary
    deleted_snapshots: int = 0
    deleted: int = 0


def take_backup(
    settings: SdbSettings, options: BackupOptions, report: Callable[[Finding], None]
) -> BackupResult:
    """Take a snapshot of an sdb, which may run meanwhile.

    A run that is killed leaves no snapshot; the next one continues with the files that it had
    copied.

    Parameters
    ----------
    settings : SdbSettings
        Those of the sdb: its database and its store.
    options : BackupOptions
        Where to, and what stays there.
    report : callable
        Called for each record whose bytes the sdb does not have any more.

    Raises
    ------
    ConfigurationError
        If the sdb does not exist, or the destination can hold no backup; with `keep`, also if the
        sdb has no records, and the newest snapshot has some.
    DatabaseError, StoreError
        If one of them cannot be used.
    """
    require_database(settings.database_url)
    source = open_objects(settings.store_url, "--store-url")
    _refuse_own_store(settings, options.destination)
    with writing(options.destination) as scratch:
        there = _settings_of_backup(options.destination, scratch)
        store = open_store(there)
        target = open_objects(there.store_url, "DESTINATION")
        snapshots = open_snapshots(there.store_url, "DESTINATION", SdbSnapshot)
        database = scratch / "sdb.db"
        taken = datetime.now(UTC)
        copy_to_sqlite(settings.database_url, database, MIGRATIONS, METADATA.sorted_tables)
        with open_database(f"sqlite:///{database}", MIGRATIONS) as engine:
            copier = FileCopier(source, target, store, options.threads)
            copied = copier.copy(engine, report)
        if options.keep is not None and not copied.records:
            _require_no_records(snapshots.list().snapshots[-1:])
        # Complete once closed: until then a part of it is in its journal.
        snapshot = snapshots.add(_describe(taken, copied, database), database)
        if options.keep is None:
            return BackupResult(snapshot, copied)
        counts = _delete_older(snapshots, target, options.keep, scratch)
        return BackupResult(snapshot, copied, *counts)


def _refuse_own_store(settings: SdbSettings, url: str) -> None:
    folder = store_folder(url)
    if folder is not None and folder == store_folder(settings.store_url):
        raise ConfigurationError(f"DESTINATION {url}: it is the store of this sdb")


def _require_no_records(newest: list[SdbSnapshot]) -> None:
    """Refuse to let an sdb without records, perhaps the wrong one, replace one that had some."""
    for each in newest:
        if each.records:
            raise ConfigurationError(
                f"--keep: the sdb has no records, and the newest snapshot has {each.records} "
                "(accepted: the sdb of this backup, or a first snapshot of it without --keep)"
            )


def _settings_of_backup(url: str, scratch: Path) -> SdbSettings:
    """Return the settings of the store that a backup is.

    A bucket's files are received in a folder of their own: that of the sdb is in use.
    """
    given = {"store_url": url, "scratch_folder": scratch / "incoming"}
    return validated(SdbSettings, given, key_names={"store_url": "DESTINATION"})


def _describe(taken: datetime, copied: CopySummary, database: Path) -> SdbSnapshot:
    return SdbSnapshot(
        taken=taken,
        records=copied.records,
        files=copied.files,
        size_bytes=copied.size_bytes,
        missing=copied.missing,
        database_sha256=file_digest(database),
    )


def _delete_older(
    snapshots: Snapshots[SdbSnapshot], target: StoredObjects, keep: int, scratch: Path
) -> tuple[int, int]:
    """Delete all but the newest `keep` snapshots, and the files that none of these names.

    Returns
    -------
    tuple of int
        How many snapshots were deleted, and how many files.
    """
    older = snapshots.delete_older(keep)
    left = snapshots.list()
    if not older or left.damaged:  # nobody knows what these name
        return older, 0
    return older, _delete_unnamed(snapshots, left.snapshots, target, scratch)


def _delete_unnamed(
    snapshots: Snapshots[SdbSnapshot], kept: list[SdbSnapshot], target: StoredObjects, scratch: Path
) -> int:
    """Delete the files that no snapshot names; return how many."""
    before = datetime.now(UTC) - timedelta(seconds=GRACE_S)
    deleted = 0
    with ExitStack() as stack:
        named = [stack.enter_context(_named(snapshots, each, scratch / each.name)) for each in kept]
        for prefix in PREFIXES:
            digests = set().union(*(next(each) for each in named))
            objects, _ = target.with_prefix(prefix)
            for sha256, stored in objects.items():
                # What is newer may be of a backup that is being written from elsewhere.
                if sha256 not in digests and stored.modified < before:
                    target.delete(stored.path)
                    deleted += 1
    return deleted


@contextmanager
def _named(
    snapshots: Snapshots[SdbSnapshot], snapshot: SdbSnapshot, path: Path
) -> Iterator[Iterator[set[str]]]:
    """Yield the digests that a snapshot names, a set for each prefix, in the order of prefixes."""
    snapshots.fetch(snapshot, path)
    with open_database(f"sqlite:///{path}", MIGRATIONS) as engine, read_records(engine) as records:
        yield (set(named) for _, named in records.by_prefix())
