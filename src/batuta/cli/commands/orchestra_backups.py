"""`batuta backup` and `restore`: what an orchestra cannot make again, elsewhere, and back."""

from pathlib import Path
from typing import Annotated

import typer

from batuta.cli.deployment.places import DEFAULT_CONFIG
from batuta.cli.requests.archive_lines import AT_HELP, PLACE_HELP

_Config = Annotated[Path, typer.Option("--file", "-f", metavar="CONFIG", help="That of batuta up.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("backup")(backup)
    app.command("restore")(restore)


def backup(
    destination: Annotated[str, typer.Argument(metavar="DESTINATION", help=PLACE_HELP)],
    *,
    config: _Config = DEFAULT_CONFIG,
    keep: Annotated[
        int | None, typer.Option(min=1, help="How many snapshots stay; by default all.")
    ] = None,
) -> None:
    """Copy all products and the records of the conductor elsewhere, while they run or not.

    Prints a line for each record whose bytes the sdb does not have any more; the exit code is 1
    if there is any.
    """
    from batuta.cli.deployment.backups import back_up  # noqa: PLC0415  for --help to be fast

    if not back_up(config, destination, keep):
        raise typer.Exit(1)


def restore(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=PLACE_HELP)],
    *,
    config: _Config = DEFAULT_CONFIG,
    at: Annotated[str | None, typer.Option(help=AT_HELP)] = None,
) -> None:
    """Make the databases and the store of an orchestra from a backup: it must have none.

    Prints a line for each record whose bytes the backup does not have; the exit code is 1 if there
    is any.
    """
    from batuta.cli.deployment.restoring import put_back  # noqa: PLC0415  for --help to be fast

    if not put_back(config, source, at):
        raise typer.Exit(1)
