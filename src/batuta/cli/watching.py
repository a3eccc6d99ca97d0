"""`batuta status`, `watch` and `why`: what runs, and why something was or was not made."""

import asyncio
from collections import Counter
from typing import Annotated, Any, Final

import typer

from batuta.cli.conductor_client import ConductorClient
from batuta.cli.live_view import watch as watch_stage
from batuta.cli.output import (
    CONDUCTOR_URL,
    NATS_URL,
    AsJson,
    ConductorUrl,
    NatsUrl,
    console,
    print_json,
    print_table,
)
from batuta.messaging import NatsConfig

PANEL: Final = "Watching"


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("status", rich_help_panel=PANEL)(status)
    app.command("watch", rich_help_panel=PANEL)(watch)
    app.command("why", rich_help_panel=PANEL)(why)


def status(conductor_url: ConductorUrl = CONDUCTOR_URL, *, as_json: AsJson = False) -> None:
    """Show the services, the observations and the processings that need a look."""
    with ConductorClient(conductor_url) as conductor:
        health = conductor.health()
        services = conductor.services()
        observations = list(conductor.observations())
        troubled = [
            processing
            for state in ("retrying", "failed", "held")
            for processing in conductor.processings(state=state)
        ]
    if as_json:
        print_json(
            {
                "health": health,
                "services": services,
                "observations": observations,
                "processings": troubled,
            }
        )
        return
    _print_health(health)
    _print_services(services)
    _print_observations(observations)
    if troubled:
        _print_troubled(troubled)


def watch(conductor_url: ConductorUrl = CONDUCTOR_URL, nats_url: NatsUrl = NATS_URL) -> None:
    """Show live what the orchestra does, until Ctrl-C."""
    asyncio.run(watch_stage(NatsConfig(url=nats_url), conductor_url, console))


def why(
    product: Annotated[str, typer.Argument(help="Name of the product.")],
    obs_id: Annotated[str, typer.Argument(help="The observation.")],
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    *,
    as_json: AsJson = False,
) -> None:
    """Say why a product was, or was not, made."""
    with ConductorClient(conductor_url) as conductor:
        answer = conductor.why(product, obs_id)
    if as_json:
        print_json(answer)
    else:
        typer.echo(answer["answer"])
        _print_profiles(answer["processings"][-1:])


def _print_health(health: dict[str, Any]) -> None:
    for what, well in health["checks"].items():
        if not well:
            console.print(
                f"[bold red]{what}: not connected[/]; what the services tell below is old, and "
                "nothing is heard until it is back"
            )


def _print_services(services: list[dict[str, Any]]) -> None:
    keys = ("name", "kind", "state", "queued", "running", "url")
    rows = [[service.get(key) for key in keys] for service in services]
    print_table("Services", keys, rows)


def _print_observations(observations: list[dict[str, Any]]) -> None:
    total = Counter[str]()
    for observation in observations:
        total.update(observation["processings"])
    states = sorted(total)
    rows = [
        [
            observation["obs_id"],
            observation["available"],
            *(observation["processings"].get(state, "") for state in states),
        ]
        for observation in observations
    ]
    print_table(f"{len(observations)} observations", ["observation", "available", *states], rows)


def _print_troubled(processings: list[dict[str, Any]]) -> None:
    keys = ("obs_id", "product", "provider", "state", "attempt", "error", "id")
    rows = [[processing.get(key) for key in keys] for processing in processings]
    print_table("Processings that need a look", keys, rows)
    _print_profiles(processings)


def _print_profiles(processings: list[dict[str, Any]]) -> None:
    """Print where their profiles are: in lines of their own, to be copied or clicked on."""
    for processing in processings:
        if profile := processing.get("profile"):
            typer.echo(f"profile of {processing['product']} of {processing['obs_id']}: {profile}")
