"""The backup of an orchestra: the records of its conductor, and the whole sdb."""

import time
from contextlib import chdir
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from batuta.cli.deployment.places import conductor_places, sdb_places
from batuta.cli.deployment.plan import OrchestraConfig
from batuta.cli.options import read_document
from batuta.cli.output import echo
from batuta.cli.requests.archive_lines import copied_parts, moment_of, print_finding
from batuta.cli.requests.times import read_moment
from batuta.conductor.backup import (
    back_up_records,
    delete_older_records,
    require_no_records,
    restore_records,
)
from batuta.sdb.backup import BackupOptions, RestoreOptions, restore_backup, take_backup
from batuta.sdb.settings import SdbSettings, store_folder
from batuta.service.folder_lock import lock_folder
from batuta.validation import validated


def back_up(config: Path, destination: str, keep: int | None) -> bool:
    """Take a snapshot of the conductor's records, then one of the sdb, and print what was done.

    Parameters
    ----------
    config : Path
        The configuration of ``batuta up``.
    destination : str
        A folder, or ``s3://bucket/prefix``.
    keep : int or None
        How many snapshots stay there; by default all.

    Returns
    -------
    bool
        Whether the sdb has all of its files.

    Raises
    ------
    ConfigurationError
        If there is nothing to back up, or no place to back up to.
    DatabaseError, StoreError
        If one of them cannot be used.
    """
    places = _places(config, destination)
    options = BackupOptions(destination=places.sdb_backup, keep=keep)
    started = time.monotonic()
    with chdir(places.folder):
        # First: so the sdb has all that these records know of, and what came since.
        conductor = back_up_records(places.conductor_url, places.conductor_backup)
        result = take_backup(places.sdb, options, partial(print_finding, as_json=False))
        if keep is not None:
            # Not before the sdb has a snapshot that is newer: older ones need theirs.
            delete_older_records(places.conductor_backup, keep)
    duration_s = time.monotonic() - started
    echo(f"conductor: snapshot {moment_of(conductor.taken)}")
    taken = moment_of(result.snapshot.taken)
    echo("; ".join([f"sdb: snapshot {taken}", *copied_parts(result.copied, duration_s)]))
    return not result.copied.missing


def put_back(config: Path, source: str, at: str | None) -> bool:
    """Restore the sdb, then the conductor's records that are not newer, and print what was done.

    Parameters
    ----------
    config : Path
        The configuration of ``batuta up``.
    source : str
        The backup.
    at : str or None
        The moment that is restored, as it was given on the command line; by default the last.

    Returns
    -------
    bool
        Whether the backup has all files.

    Raises
    ------
    ConfigurationError
        If there is no such snapshot, or the orchestra has records, or runs.
    DatabaseError, StoreError
        If one of them cannot be used.
    """
    moment = read_moment("--at", at)
    by = None if moment is None else datetime.fromisoformat(moment)
    places = _places(config, source)
    refusal = f"data_dir {places.data_dir}: an orchestra is running in it"
    started = time.monotonic()
    with chdir(places.folder), lock_folder(places.data_dir, refusal):
        require_no_records(places.conductor_url)
        options = RestoreOptions(source=places.sdb_backup, at=by)
        result = restore_backup(places.sdb, options, partial(print_finding, as_json=False))
        # Records that are newer would believe in products that the sdb does not have.
        by = result.snapshot.taken
        conductor = restore_records(places.conductor_url, places.conductor_backup, by)
    duration_s = time.monotonic() - started
    taken = moment_of(result.snapshot.taken)
    echo("; ".join([f"sdb: restored snapshot {taken}", *copied_parts(result.copied, duration_s)]))
    echo(f"conductor: restored snapshot {moment_of(conductor.taken)}")
    echo("start it with batuta up, then compare: batuta reconcile, batuta reconcile --apply")
    return not result.copied.missing


@dataclass(frozen=True)
class _Places:
    """Where an orchestra keeps what it cannot make again, and where its backup is."""

    folder: Path
    data_dir: Path
    conductor_url: str
    sdb: SdbSettings
    conductor_backup: str
    sdb_backup: str


def _places(config: Path, backup_url: str) -> _Places:
    given = validated(OrchestraConfig, read_document(config), source=str(config))
    folder = config.resolve().parent
    data_dir = (folder / given.data_dir).resolve()
    sdb = {**sdb_places(data_dir), **given.sdb}
    conductor = {**conductor_places(data_dir), **given.conductor}
    # Relative ones are to be of this folder, and not of that of the configuration.
    there = store_folder(backup_url)
    there_url = backup_url.rstrip("/") if there is None else str(there)
    return _Places(
        folder,
        data_dir,
        str(conductor["database_url"]),
        validated(SdbSettings, sdb, source=f"{config}: sdb"),
        f"{there_url}/conductor",
        f"{there_url}/sdb",
    )
