"""`batuta hold` and `release`: request nothing more of a provider, or of any, for a while."""

from typing import Annotated

import typer

from batuta.cli.clients import conductor_at
from batuta.cli.lazy_commands import PRODUCTS
from batuta.cli.output import CONDUCTOR_URL, AsJson, ConductorUrl, echo, print_json
from batuta.errors import ConfigurationError

Provider = Annotated[str | None, typer.Argument(help="The provider, as in the graph.")]
Every = Annotated[bool, typer.Option("--all", help="Every provider.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for name, command in (("hold", hold), ("release", release)):
        app.command(name, rich_help_panel=PRODUCTS)(command)


def hold(
    provider: Provider = None,
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    *,
    every: Every = False,
    as_json: AsJson = False,
) -> None:
    """Request nothing more of a provider until it is released; what runs continues."""
    _change(provider, conductor_url, held=True, every=every, as_json=as_json)


def release(
    provider: Provider = None,
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    *,
    every: Every = False,
    as_json: AsJson = False,
) -> None:
    """End the hold of a provider, or of all: what waited is requested."""
    _change(provider, conductor_url, held=False, every=every, as_json=as_json)


def _change(
    provider: str | None, conductor_url: str, *, held: bool, every: bool, as_json: bool
) -> None:
    if (provider is None) != every:
        given = f"{provider} and --all" if provider is not None else "no provider"
        raise ConfigurationError(f"{given} given (accepted: PROVIDER, or --all)")
    with conductor_at(conductor_url) as conductor:
        answer = conductor.hold(provider, held=held)
    if as_json:
        print_json(answer)
        return
    names = ["every provider" if name == "*" else name for name in answer["held"]]
    echo(f"held now: {', '.join(names) or 'none'}")
