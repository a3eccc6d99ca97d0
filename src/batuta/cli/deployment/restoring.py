"""An orchestra that is made anew from a backup; it starts once both of its databases are whole."""

import time
from contextlib import chdir
from datetime import datetime
from functools import partial
from pathlib import Path

from batuta.cli.deployment.backups import BackupPlaces, places_of
from batuta.cli.deployment.restore_mark import MARK, RestoreUnderWay, read_mark
from batuta.cli.output import echo
from batuta.cli.requests.archive_lines import copied_parts, moment_of, print_finding
from batuta.cli.requests.times import read_moment
from batuta.conductor.backup import fetched_records, has_records
from batuta.errors import ConfigurationError
from batuta.private_files import replace_private
from batuta.sdb.backup import RestoreOptions, find_snapshot, has_products, restore_backup
from batuta.service.database_copy import refuse_records
from batuta.service.folder_lock import lock_folder


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
        If there is no such snapshot, or the orchestra has records, or runs; or if another restore
        into it was interrupted.
    DatabaseError, StoreError
        If one of them cannot be used.
    """
    places = places_of(config, source)
    refusal = f"data_dir {places.data_dir}: an orchestra is running in it"
    with chdir(places.folder), lock_folder(places.data_dir, refusal):
        mark = places.data_dir / MARK
        begun = _begun(places, at)
        # Newer records would believe in products that the sdb does not have. They are fetched
        # first: if they are not whole, nothing is restored.
        with fetched_records(places.conductor_backup, begun.taken) as records:
            replace_private(mark, begun.model_dump_json() + "\n")
            whole = _restore_sdb(places, begun)
            if not has_records(places.conductor_url):
                records.restore(places.conductor_url)
        mark.unlink()
    echo(f"conductor: restored snapshot {moment_of(records.snapshot.taken)}")
    echo("start it with batuta up, then compare: batuta reconcile, batuta reconcile --apply")
    return whole


def _begun(places: BackupPlaces, at: str | None) -> RestoreUnderWay:
    """Return what is asked for, which an interrupted run may have begun."""
    source = places.sdb_backup.removesuffix("/sdb")
    begun = read_mark(places.data_dir)
    if begun is not None and (begun.source, begun.at) == (source, at):
        return begun
    _require_empty(places, begun)
    moment = read_moment("--at", at)
    by = None if moment is None else datetime.fromisoformat(moment)
    taken = find_snapshot(places.sdb_backup, by).taken
    return RestoreUnderWay(source=source, at=at, taken=taken)


def _require_empty(places: BackupPlaces, begun: RestoreUnderWay | None) -> None:
    """Refuse databases with records; if another restore left them, tell of that."""
    found = {
        places.conductor_url: has_records(places.conductor_url),
        places.sdb.database_url: has_products(places.sdb),
    }
    if begun is not None and any(found.values()):
        raise ConfigurationError(f"data_dir {places.data_dir}: {begun}")
    for url, has_any in found.items():
        refuse_records(url, found=has_any)


def _restore_sdb(places: BackupPlaces, begun: RestoreUnderWay) -> bool:
    """Restore the sdb, unless that was done; return whether the backup has all of its files."""
    if has_products(places.sdb):
        # All records were committed at once: it is whole, and what was missing was told then.
        taken = moment_of(begun.taken)
        echo(f"sdb: snapshot {taken} was restored before; batuta sdb check tells what it lacks")
        return True
    options = RestoreOptions(source=places.sdb_backup, at=begun.taken)
    started = time.monotonic()
    result = restore_backup(places.sdb, options, partial(print_finding, as_json=False))
    parts = copied_parts(result.copied, time.monotonic() - started)
    echo("; ".join([f"sdb: restored snapshot {moment_of(begun.taken)}", *parts]))
    return not result.copied.missing
