"""`batuta rm`: withdraw a version of a product."""

import sys
from typing import Annotated, Final

import typer

from batuta.cli.clients import sdb_at
from batuta.cli.commands.products import PANEL, RETRY_FOR_S, ObsId, Product
from batuta.cli.output import (
    SDB_URL,
    AsJson,
    SdbUrl,
    echo,
    print_json,
)
from batuta.errors import ConfigurationError

MAX_REASON_LENGTH: Final = 400


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("rm", rich_help_panel=PANEL)(rm)


def rm(
    product: Product,
    obs_id: ObsId,
    version: Annotated[int | None, typer.Option(help="Version; by default the newest.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why; kept with the record.")] = None,
    sdb_url: SdbUrl = SDB_URL,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Withdraw a version of a product: it is kept, and no longer given to anyone."""
    if reason is not None and not (reason.isprintable() and 0 < len(reason) <= MAX_REASON_LENGTH):
        raise ConfigurationError(
            f"--reason {reason!r:.80}: (accepted: 1 to {MAX_REASON_LENGTH} printable characters)"
        )
    if yes and version is None:
        # Repeated, as scripts do, it would withdraw the version before.
        raise ConfigurationError("--yes: give --version with it (accepted: the one to withdraw)")
    with sdb_at(sdb_url, RETRY_FOR_S) as sdb:
        number = sdb.get(product, obs_id).version if version is None else version
        what = f"{product} of {obs_id}, version {number}"
        if not yes:
            if not sys.stdin.isatty():
                command = f"--version {number} --yes"
                raise ConfigurationError(f"{what}: give {command} to withdraw it")
            typer.confirm(f"withdraw {what}?", abort=True, err=True)
        withdrawn = sdb.withdraw(product, obs_id, number, reason)
    if as_json:
        print_json(withdrawn.model_dump(mode="json"))
    else:
        echo(f"{what}, withdrawn")
