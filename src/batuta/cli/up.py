"""`batuta up`: run all services of a configuration on this machine."""

import asyncio
from pathlib import Path
from typing import Annotated, Final

import typer

from batuta.cli.deployment_plan import DeploymentPlan, plan_orchestra
from batuta.cli.orchestra import Orchestra, running_plan
from batuta.cli.signals import until_stopped

DEFAULT_CONFIG: Final = Path("batuta.yaml")


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("up")(up)


def up(
    config: Annotated[
        Path, typer.Argument(metavar="[CONFIG]", help="YAML or JSON file.")
    ] = DEFAULT_CONFIG,
) -> None:
    """Run a whole orchestra on this machine until Ctrl-C, which stops it cleanly."""
    plan = plan_orchestra(config)
    for line in plan.warnings:
        typer.echo(f"warning: {line}")
    asyncio.run(until_stopped(_play(plan)))


async def _play(plan: DeploymentPlan) -> None:
    async with running_plan(plan, typer.echo) as orchestra:
        print_addresses(orchestra)
        await orchestra.supervisor.failed


def print_addresses(orchestra: Orchestra) -> None:
    """Print the URL of each service."""
    for name, address in orchestra.addresses().items():
        typer.echo(f"{name:<20} {address}")
