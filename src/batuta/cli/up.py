"""`batuta up`: run all services of a configuration on this machine."""

import asyncio
from pathlib import Path
from typing import Annotated, Final

import typer

from batuta.cli.deployment_plan import OrchestraConfig, read_orchestra
from batuta.cli.orchestra import Orchestra, running_orchestra
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
    asyncio.run(until_stopped(_play(read_orchestra(config), config.resolve().parent)))


async def _play(config: OrchestraConfig, folder: Path) -> None:
    async with running_orchestra(config, folder, typer.echo) as orchestra:
        print_addresses(orchestra)
        await orchestra.supervisor.failed


def print_addresses(orchestra: Orchestra) -> None:
    """Print the URL of each service."""
    for name, address in orchestra.addresses().items():
        typer.echo(f"{name:<20} {address}")
