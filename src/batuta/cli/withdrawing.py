"""`batuta rm`: withdraw a version of a product."""

import sys
from typing import Annotated

import typer

from batuta.cli.clients import conductor_at, sdb_at
from batuta.cli.output import (
    CONDUCTOR_URL,
    SDB_URL,
    AsJson,
    ConductorUrl,
    SdbUrl,
    echo,
    print_json,
)
from batuta.cli.products import PANEL, RETRY_FOR_S, ObsId, Product
from batuta.errors import ConfigurationError


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("rm", rich_help_panel=PANEL)(rm)


def rm(  # noqa: PLR0913  each is an option
    product: Product,
    obs_id: ObsId,
    version: Annotated[int | None, typer.Option(help="Version; by default the newest.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why; kept with the record.")] = None,
    sdb_url: SdbUrl = SDB_URL,
    conductor_url: ConductorUrl = CONDUCTOR_URL,
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
    problem = _forget(conductor_url, product, obs_id)
    if problem is not None:
        echo(f"the conductor does not know it yet ({problem}): batuta reconcile --apply tells it")


def _forget(conductor_url: str, product: str, obs_id: str) -> str | None:
    """Have the conductor take the newest version that is left; return why it could not."""
    from batuta.service.client import ServiceError  # noqa: PLC0415  for --help to be fast

    try:
        with conductor_at(conductor_url) as conductor:
            conductor.forget(product, obs_id)
    except ServiceError as exc:
        # 404 and 409: an older version was withdrawn, or it had not heard of this one.
        return None if exc.status in {404, 409} else str(exc)
    return None
