"""The backup of an orchestra: the records of its conductor, and the whole sdb."""

import time
from contextlib import chdir
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from batuta.cli.deployment.places import conductor_places, sdb_places
from batuta.cli.deployment.plan import OrchestraConfig
from batuta.cli.deployment.restore_mark import refuse_interrupted
from batuta.cli.options import read_document
from batuta.cli.output import echo
from batuta.cli.requests.archive_lines import copied_parts, moment_of, print_finding
from batuta.conductor.backup import back_up_records, delete_older_records
from batuta.sdb.backup import BackupOptions, take_backup
from batuta.sdb.settings import SdbSettings, store_folder
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
        If there is nothing to back up, or no place to back up to; or if a restore of the orchestra
        was interrupted.
    DatabaseError, StoreError
        If one of them cannot be used.
    """
    places = places_of(config, destination)
    options = BackupOptions(destination=places.sdb_backup, keep=keep)
    # Night after night, it would replace what the restore is to be continued from.
    refuse_interrupted(places.data_dir)
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


@dataclass(frozen=True)
class BackupPlaces:
    """Where an orchestra keeps what it cannot make again, and where its backup is."""

    folder: Path
    data_dir: Path
    conductor_url: str
    sdb: SdbSettings
    conductor_backup: str
    sdb_backup: str


def places_of(config: Path, backup_url: str) -> BackupPlaces:
    """Return the places of the orchestra of a configuration, and of its backup.

    Raises
    ------
    ConfigurationError
        If the configuration is not valid.
    """
    given = validated(OrchestraConfig, read_document(config), source=str(config))
    folder = config.resolve().parent
    data_dir = (folder / given.data_dir).resolve()
    sdb = {**sdb_places(data_dir), **given.sdb}
    conductor = {**conductor_places(data_dir), **given.conductor}
    # Relative ones are to be of this folder, and not of that of the configuration.
    there = store_folder(backup_url)
    there_url = backup_url.rstrip("/") if there is None else str(there)
    return BackupPlaces(
        folder,
        data_dir,
        str(conductor["database_url"]),
        validated(SdbSettings, sdb, source=f"{config}: sdb"),
        f"{there_url}/conductor",
        f"{there_url}/sdb",
    )
