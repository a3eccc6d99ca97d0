"""`batuta up`: run all services of a configuration on this machine."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer

from batuta.cli.deployment.orchestra import running_plan
from batuta.cli.deployment.places import DEFAULT_CONFIG
from batuta.cli.deployment.plan import DeploymentPlan, plan_orchestra
from batuta.cli.live.event_lines import EventLines
from batuta.cli.live.view import printed, updated_by_events
from batuta.cli.output import console, print_addresses
from batuta.cli.signals import until_stopped
from batuta.messaging import MessagingError, connect


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("up")(up)


def up(
    config: Annotated[
        Path, typer.Argument(metavar="[CONFIG]", help="YAML or JSON file.")
    ] = DEFAULT_CONFIG,
    *,
    reload: Annotated[
        bool,
        typer.Option("--reload", help="Load a pipeline's code again when its files are edited."),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show the services alone, not what is made.")
    ] = False,
) -> None:
    """Run a whole orchestra on this machine until Ctrl-C, which stops it cleanly.

    Shows what happens: inputs that arrive, products, failures with their cause, retries, code that
    was loaded again.
    """
    plan = plan_orchestra(config, reload=reload)
    for line in plan.warnings:
        typer.echo(f"warning: {line}")
    asyncio.run(until_stopped(_play(plan, quiet=quiet)))


async def _play(plan: DeploymentPlan, *, quiet: bool) -> None:
    async with running_plan(plan, typer.echo) as orchestra, AsyncExitStack() as stack:
        if not quiet:
            await _show_events(plan, stack)
        print_addresses(orchestra.addresses())
        await orchestra.supervisor.failed


async def _show_events(plan: DeploymentPlan, stack: AsyncExitStack) -> None:
    """Print what is published on NATS, a line each, until `stack` is closed."""
    lines = EventLines()
    try:
        bus = await stack.enter_async_context(connect(plan.nats_config, "up"))
        await stack.enter_async_context(updated_by_events(bus, lines))
    except MessagingError as exc:  # the services have the address and token of another NATS
        typer.echo(f"warning: what happens is not shown: {exc}")
    else:
        await stack.enter_async_context(printed(lines, console))
