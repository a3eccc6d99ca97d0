"""`batuta sdb check`: the records of an sdb against the bytes that it keeps."""

import inspect
import json
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from batuta.cli.options import settings_command
from batuta.cli.output import echo
from batuta.cli.requests.archive_lines import print_finding
from batuta.formatting import format_bytes, format_count, format_seconds
from batuta.sdb.settings import SdbSettings

if TYPE_CHECKING:
    from batuta.sdb.check import CheckOptions, Summary

PLACES: Final = ("database_url", "store_url", "scratch_folder")
"""The settings of the sdb that say where it keeps what."""


def add_check(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("check")(settings_command(SdbSettings, check, only=PLACES, besides=_OPTIONS))


def check(settings: SdbSettings, *, as_json: bool, **options: Any) -> None:
    """Compare every record with the bytes in the store, by their SHA-256, and the other way round.

    The sdb may run meanwhile, or not. Prints a line for each thing that is wrong; the exit code is
    1 if anything is wrong at the end.
    """
    from batuta.sdb.check import Check, CheckOptions  # noqa: PLC0415  for --help to be fast

    asked = CheckOptions(**options)
    run = Check(settings, asked)
    started = time.monotonic()
    for finding in run.run():
        print_finding(finding, as_json=as_json)
    duration_s = time.monotonic() - started
    if as_json:
        typer.echo(json.dumps({"summary": run.summary.as_dict(), "duration_s": duration_s}))
    else:
        echo(_summary(run.summary, asked, duration_s))
    if not run.summary.is_right:
        raise typer.Exit(1)


def _summary(summary: "Summary", asked: "CheckOptions", duration_s: float) -> str:
    read = "sizes alone" if asked.quick else f"{format_bytes(summary.read_bytes)} read"
    records, files = format_count(summary.records, "record"), format_count(summary.files, "file")
    parts = [f"{records}, {files}, {read} in {format_seconds(duration_s)}"]
    wrong = {kind: count - summary.mended.get(kind, 0) for kind, count in summary.wrong.items()}
    parts += [f"{count} {kind}" for kind, count in wrong.items() if count]
    parts += [f"{count} {kind} mended" for kind, count in summary.mended.items()]
    counts = {"set aside": summary.set_aside, "put back": summary.put_back}
    counts["deleted"] = summary.deleted
    parts += [f"{count} {what}" for what, count in counts.items() if count]
    if not summary.wrong:
        parts.append("nothing is wrong")
    return "; ".join(parts)


def option(name: str, kind: Any, default: object, declared: Any) -> inspect.Parameter:
    """Return the parameter of a command that is an option, and no setting."""
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, declared]
    )


_OPTIONS: Final = (
    option("quick", bool, False, typer.Option("--quick", help="Compare sizes; read no bytes.")),
    option(
        "grace_s",
        float,
        86_400.0,
        typer.Option(
            "--grace",
            "--grace-s",
            min=0,
            help="How old bytes that no record names are to be told, in seconds: an import stores "
            "them before its record.",
        ),
    ),
    option(
        "collect",
        bool,
        False,
        typer.Option(
            "--collect",
            help="Set bytes aside that no record names; delete those that were set aside longer "
            "than --grace ago, and put back those that a record names.",
        ),
    ),
    option(
        "repair_from",
        str | None,
        None,
        typer.Option(
            "--repair",
            metavar="FROM",
            help="Copy what is missing or wrong from this store: a folder, or s3://bucket/prefix.",
        ),
    ),
    option(
        "threads",
        int | None,
        None,
        typer.Option(
            min=1, max=256, help="Files read at a time; by default one per core, in a bucket 16."
        ),
    ),
    option("as_json", bool, False, typer.Option("--json", help="Print JSON, one line each.")),
)
