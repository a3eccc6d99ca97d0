"""Backups of a conductor's records, taken while it runs, and a database made anew from one."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from batuta.conductor.database.campaign_schema import campaigns
from batuta.conductor.database.schema import MIGRATIONS
from batuta.sdb.backup import Snapshot, open_snapshots
from batuta.sdb.backup.snapshots import file_digest, latest, writing
from batuta.service.database import open_database, reading
from batuta.service.database_copy import (
    copy_from_sqlite,
    copy_to_sqlite,
    is_empty,
    require_database,
)

_COUNTED: Final = {"conductor_counts", "conductor_observations"}
"""Triggers of the database fill them, as rows are inserted into the others."""
TABLES: Final = [each for each in campaigns.metadata.sorted_tables if each.name not in _COUNTED]


def back_up_records(database_url: str, destination: str) -> Snapshot:
    """Take a snapshot of the records of a conductor, which may run meanwhile.

    Parameters
    ----------
    database_url : str
        Where they are.
    destination : str
        A folder, or ``s3://bucket/prefix``.

    Raises
    ------
    ConfigurationError
        If there are none, or the destination can hold no backup.
    DatabaseError, StoreError
        If one of them cannot be used.
    """
    require_database(database_url)
    with writing(destination) as scratch:
        snapshots = open_snapshots(destination, "DESTINATION", Snapshot)
        database = scratch / "conductor.db"
        taken = datetime.now(UTC)
        copy_to_sqlite(database_url, database, MIGRATIONS, TABLES)
        snapshot = Snapshot(taken=taken, database_sha256=file_digest(database))
        return snapshots.add(snapshot, database)


def delete_older_records(destination: str, keep: int) -> None:
    """Delete all snapshots of a backup but the newest `keep`.

    Raises
    ------
    StoreError
        If they cannot be deleted.
    """
    with writing(destination):
        open_snapshots(destination, "DESTINATION", Snapshot).delete_older(keep)


@dataclass(frozen=True)
class FetchedRecords:
    """A snapshot that was fetched and verified."""

    snapshot: Snapshot
    database: Path

    def restore(self, database_url: str) -> None:
        """Make the database of a conductor from it, in one transaction.

        Raises
        ------
        ConfigurationError
            If the database has records.
        DatabaseError
            If it cannot be used.
        """
        with (
            open_database(f"sqlite:///{self.database}", MIGRATIONS) as records,
            open_database(database_url, MIGRATIONS) as target,
        ):
            copy_from_sqlite(records, target, TABLES)


@contextmanager
def fetched_records(source: str, at: datetime | None = None) -> Iterator[FetchedRecords]:
    """Fetch the newest snapshot that was taken by `at`, for as long as the block.

    Raises
    ------
    ConfigurationError
        If there is no such snapshot.
    StoreError
        If it cannot be read, or is damaged.
    """
    snapshots = open_snapshots(source, "SOURCE", Snapshot)
    snapshot = latest(snapshots, source, at)
    with tempfile.TemporaryDirectory() as scratch:
        database = Path(scratch, "conductor.db")
        snapshots.fetch(snapshot, database)
        yield FetchedRecords(snapshot, database)


def has_records(database_url: str) -> bool:
    """Return whether the database of a conductor has any; raises as `open_database`."""
    with open_database(database_url, MIGRATIONS) as engine, reading(engine) as connection:
        return not is_empty(connection, TABLES)
