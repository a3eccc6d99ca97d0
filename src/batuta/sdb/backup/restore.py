"""Makes an sdb from a snapshot of a backup: the bytes first, then their records."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from batuta.sdb.backup.copying import CopySummary, FileCopier
from batuta.sdb.backup.snapshots import SdbSnapshot, latest, open_snapshots
from batuta.sdb.check.findings import Finding
from batuta.sdb.check.objects import open_objects
from batuta.sdb.settings import SdbSettings
from batuta.sdb.store import open_store
from batuta.sdb.tables import METADATA, MIGRATIONS
from batuta.service.database import open_database, reading
from batuta.service.database_copy import copy_from_sqlite, is_empty, require_empty


@dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """What is restored.

    Attributes
    ----------
    source : str
        The backup: a folder, or ``s3://bucket/prefix``.
    at : datetime or None
        The newest snapshot that was taken by then; by default the newest of all.
    threads : int or None
        How many files are copied at a time; by default one per core and 4 at least, with a
        bucket 16.
    """

    source: str
    at: datetime | None = None
    threads: int | None = None


@dataclass(frozen=True)
class RestoreResult:
    """What was restored: the snapshot, and the files that it names."""

    snapshot: SdbSnapshot
    copied: CopySummary


def find_snapshot(source: str, at: datetime | None = None) -> SdbSnapshot:
    """Return the newest snapshot of a backup that was taken by `at`; raises as `restore_backup`."""
    return latest(open_snapshots(source, "SOURCE", SdbSnapshot), source, at)


def has_products(settings: SdbSettings) -> bool:
    """Return whether the database of an sdb has any records; raises as `open_database`."""
    with open_database(settings.database_url, MIGRATIONS) as engine, reading(engine) as connection:
        return not is_empty(connection, METADATA.sorted_tables)


def restore_backup(
    settings: SdbSettings, options: RestoreOptions, report: Callable[[Finding], None]
) -> RestoreResult:
    """Make an sdb from a snapshot of a backup.

    All records are committed at once, after the bytes of all were stored: a run that is killed
    leaves an sdb without records, and the next one continues with the files that it had copied.

    Parameters
    ----------
    settings : SdbSettings
        Those of the new sdb: its database, which must have no records, and its store.
    options : RestoreOptions
        Where from, and of what moment.
    report : callable
        Called for each record whose bytes the backup does not have.

    Raises
    ------
    ConfigurationError
        If there is no such backup or snapshot, or the database has records.
    DatabaseError, StoreError
        If one of them cannot be used.
    """
    snapshots = open_snapshots(options.source, "SOURCE", SdbSnapshot)
    snapshot = latest(snapshots, options.source, options.at)
    source = open_objects(options.source, "SOURCE")
    with (
        tempfile.TemporaryDirectory() as scratch,
        open_database(settings.database_url, MIGRATIONS) as target,
    ):
        with reading(target) as connection:
            require_empty(connection, METADATA.sorted_tables)
        database = Path(scratch, "sdb.db")
        snapshots.fetch(snapshot, database)
        store = open_store(settings)
        objects = open_objects(settings.store_url, "--store-url")
        with open_database(f"sqlite:///{database}", MIGRATIONS) as records:
            copier = FileCopier(source, objects, store, options.threads)
            copied = copier.copy(records, report)
            copy_from_sqlite(records, target, METADATA.sorted_tables)
    return RestoreResult(snapshot, copied)
