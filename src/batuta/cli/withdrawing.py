"""`batuta rm`: withdraw a version of a product."""

import sys
from typing import Annotated

import typer

from batuta.cli.clients import sdb_at
from batuta.cli.output import (
    SDB_URL,
    AsJson,
    SdbUrl,
    echo,
    print_json,
)
from batuta.cli.products import PANEL, RETRY_FOR_S, ObsId, Product
from batuta.errors import ConfigurationError


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
    with sdb_at(sdb_url, RETRY_FOR_S) as sdb:
        found = sdb.get(product, obs_id, version)
        what = f"{product} of {obs_id}, version {found.version}"
        if not yes:
            if not sys.stdin.isatty():
                raise ConfigurationError(f"{what}: give --yes to withdraw it")
            typer.confirm(f"withdraw {what}?", abort=True)
        withdrawn = sdb.withdraw(product, obs_id, found.version, reason)
    if as_json:
        print_json(withdrawn.model_dump(mode="json"))
    else:
        echo(f"{what}, withdrawn")
