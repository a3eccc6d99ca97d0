"""`batuta sdb backup`, `backups` and `restore`: copies of an sdb elsewhere, and back."""

import inspect
import json
import time
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer

from batuta.cli.commands.checking import PLACES, option
from batuta.cli.options import settings_command
from batuta.cli.output import echo
from batuta.cli.requests.archive_lines import (
    AT_HELP,
    PLACE_HELP,
    copied_parts,
    moment_of,
    print_finding,
)
from batuta.cli.requests.times import read_moment
from batuta.errors import printable
from batuta.formatting import format_bytes, format_count
from batuta.sdb.settings import SdbSettings

if TYPE_CHECKING:
    from batuta.sdb.backup import Snapshot
    from batuta.sdb.backup.copying import CopySummary


def add_backups(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    add = app.command
    add("backup")(
        settings_command(SdbSettings, _backup, _DESTINATION, only=PLACES, besides=_BACKUP_OPTIONS)
    )
    add("backups")(_backups)
    add("restore")(
        settings_command(SdbSettings, _restore, _SOURCE, only=PLACES, besides=_RESTORE_OPTIONS)
    )


def _backup(
    destination: str,
    settings: SdbSettings,
    *,
    keep: int | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Copy the sdb to a folder or a bucket, while it runs or not.

    Files that are there already are not copied again. Prints a line for each record whose bytes
    the sdb does not have any more; the exit code is 1 if there is any.
    """
    from batuta.sdb.backup import BackupOptions, take_backup  # noqa: PLC0415  for --help to be fast

    options = BackupOptions(destination=destination, keep=keep, threads=threads)
    started = time.monotonic()
    result = take_backup(settings, options, partial(print_finding, as_json=as_json))
    duration_s = time.monotonic() - started
    if as_json:
        _print_summary(result.copied, duration_s, result.snapshot)
    else:
        parts = [
            f"snapshot {moment_of(result.snapshot.taken)}",
            *copied_parts(result.copied, duration_s),
        ]
        if result.deleted_snapshots:
            older = format_count(result.deleted_snapshots, "older snapshot")
            parts.append(f"deleted {older} and {format_count(result.deleted, 'file')}")
        echo("; ".join(parts))
    if result.copied.missing:
        raise typer.Exit(1)


def _backups(
    source: Annotated[str, typer.Argument(metavar="BACKUP", help=PLACE_HELP)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one line each.")] = False,
) -> None:
    """List the snapshots of a backup, the oldest first.

    Damaged ones are named on the standard error; the exit code is 1 if there is any.
    """
    from batuta.sdb.backup import SdbSnapshot, open_snapshots  # noqa: PLC0415  for --help to be fast

    listed = open_snapshots(source, "BACKUP", SdbSnapshot).list()
    for each in listed.snapshots:
        if as_json:
            typer.echo(each.model_dump_json())
            continue
        held = f"{format_count(each.records, 'record')}, {format_count(each.files, 'file')}"
        lost = f", {each.missing} missing" if each.missing else ""
        echo(f"{moment_of(each.taken)}  {held}, {format_bytes(each.size_bytes)}{lost}")
    for damage in listed.damaged.values():
        typer.echo(printable(str(damage)), err=True)
    if listed.damaged:
        raise typer.Exit(1)


def _restore(
    source: str,
    settings: SdbSettings,
    *,
    at: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Make an sdb from a backup: its database must have no records.

    Prints a line for each record whose bytes the backup does not have; the exit code is 1 if there
    is any.
    """
    from batuta.sdb.backup import (  # noqa: PLC0415  for --help to be fast
        RestoreOptions,
        restore_backup,
    )

    moment = read_moment("--at", at)
    by = None if moment is None else datetime.fromisoformat(moment)
    options = RestoreOptions(source=source, at=by, threads=threads)
    started = time.monotonic()
    result = restore_backup(settings, options, partial(print_finding, as_json=as_json))
    duration_s = time.monotonic() - started
    if as_json:
        _print_summary(result.copied, duration_s, result.snapshot)
    else:
        taken = moment_of(result.snapshot.taken)
        echo("; ".join([f"restored snapshot {taken}", *copied_parts(result.copied, duration_s)]))
    if result.copied.missing:
        raise typer.Exit(1)


def _print_summary(summary: "CopySummary", duration_s: float, snapshot: "Snapshot") -> None:
    told = {
        "snapshot": snapshot.model_dump(mode="json"),
        "copied": summary.copied,
        "copied_bytes": summary.copied_bytes,
        "missing": summary.missing,
        "duration_s": duration_s,
    }
    typer.echo(json.dumps({"summary": told}))


def _place(name: str, metavar: str) -> inspect.Parameter:
    return inspect.Parameter(
        name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        annotation=Annotated[str, typer.Argument(metavar=metavar, help=PLACE_HELP)],
    )


_DESTINATION: Final = _place("destination", "DESTINATION")
_SOURCE: Final = _place("source", "SOURCE")
_THREADS: Final = option(
    "threads",
    int | None,
    None,
    typer.Option(
        min=1,
        max=256,
        help="Files copied at a time; by default one per core and 4 at least, with a bucket 16.",
    ),
)
_AS_JSON: Final = option(
    "as_json", bool, False, typer.Option("--json", help="Print JSON, one line each.")
)
_BACKUP_OPTIONS: Final = (
    option(
        "keep",
        int | None,
        None,
        typer.Option(
            min=1,
            help="Delete older snapshots than the newest so many, and the files that only they "
            "name; by default all are kept.",
        ),
    ),
    _THREADS,
    _AS_JSON,
)
_RESTORE_OPTIONS: Final = (
    option(
        "at",
        str | None,
        None,
        typer.Option(help=AT_HELP),
    ),
    _THREADS,
    _AS_JSON,
)
