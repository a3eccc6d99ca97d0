"""The output of commands: tables for people, JSON for programs."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from batuta.errors import printable
from batuta.formatting import format_seconds

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ConductorUrl = Annotated[
    str, typer.Option(envvar="BATUTA_CONDUCTOR_URL", help="URL of the conductor.")
]
SdbUrl = Annotated[str, typer.Option(envvar="BATUTA_SDB_URL", help="URL of the sdb.")]
Operator = Annotated[
    str | None,
    typer.Option(
        "--operator",
        envvar="BATUTA_OPERATOR",
        help="Who gives the command, for the record; by default LOGIN@MACHINE.",
    ),
]
NatsUrl = Annotated[str, typer.Option(envvar="BATUTA_NATS_URL", help="URL of NATS.")]

CONDUCTOR_URL = "http://127.0.0.1:8002"
SDB_URL = "http://127.0.0.1:8001"
NATS_URL = "nats://127.0.0.1:4222"

COPIED = frozenset({"id", "url", "obs_id", "observation", "product"})
"""Columns that people copy from: never wrapped."""

PIPED_WIDTH = 160

console = Console()
if not console.is_terminal and "COLUMNS" not in os.environ:
    # A file or a pipe has no width of its own.
    console = Console(width=PIPED_WIDTH)

STATE_STYLES = {
    "available": "green",
    "succeeded": "green",
    "running": "bold cyan",
    "queued": "cyan",
    "requested": "cyan",
    "waiting": "blue",
    "retrying": "yellow",
    "held": "magenta",
    "unapproved": "magenta",
    "refused": "red",
    "failed": "bold red",
    "cancelled": "red",
    "withdrawn": "red",
    "missing": "dim",
    "up": "green",
    "stopped": "dim",
}


def echo(text: str) -> None:
    """Print a line; what others wrote in it cannot control the terminal."""
    typer.echo(printable(text))


def print_json(value: Any) -> None:
    """Print `value` as JSON, one document."""
    typer.echo(json.dumps(value, indent=2, default=str))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; cells that are states are coloured."""
    table = Table(
        title=title,
        title_justify="left",
        header_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        collapse_padding=True,
        pad_edge=False,
    )
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in COPIED)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def duration_text(started: datetime | None, ended: datetime | None) -> str:
    """How long it took from `started` to `ended`; empty where one is not known."""
    return format_seconds((ended - started).total_seconds()) if started and ended else ""


def styled(state: str) -> str:
    """A state in its colour, as rich markup."""
    style = STATE_STYLES.get(state)
    return f"[{style}]{state}[/]" if style else state


def _cell(value: object) -> str:
    text = "" if value is None else printable(str(value))
    if text in STATE_STYLES:
        return styled(text)
    return text.replace("[", "\\[")


def print_addresses(addresses: Mapping[str, str]) -> None:
    """Print the URL of each service."""
    for name, address in addresses.items():
        typer.echo(f"{name:<20} {address}")
