"""The output of commands: tables for people, JSON for programs."""

import json
import os
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

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

HEADINGS = ("observation", "obs_id", "product", "name", "provider", "number")
"""What a row is about, and begins with where it does not fit in a line: those that there are."""
COPIED = frozenset({"id", "url"})
"""What people copy: then on a line of its own."""
MIN_PROSE_WIDTH = 24
"""Characters of a column of sentences, which alone is wrapped, at words."""

PIPED_WIDTH = 160

console = Console()
if not console.is_terminal and "COLUMNS" not in os.environ:
    # A file or a pipe has no width of its own.
    console = Console(width=PIPED_WIDTH)


def line_width() -> int | None:
    """Return how many characters a line has at most; None in a file or a pipe."""
    if not console.is_terminal and "COLUMNS" not in os.environ:
        return None
    return console.width


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


def echo_wrapped(text: str) -> None:
    """Print a line as `echo` does; one that is too long for the terminal, in several."""
    for line in wrapped(printable(text)):
        typer.echo(line)


def wrapped(text: str) -> list[str]:
    """Return a line in as many as the terminal needs: wrapped at spaces, and further indented."""
    width = line_width()
    if width is None or len(text) <= width:
        return [text]
    indent = text[: len(text) - len(text.lstrip())]
    return textwrap.wrap(
        text,
        width,
        subsequent_indent=f"{indent}    ",
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


def print_json(value: Any) -> None:
    """Print `value` as JSON, one document."""
    typer.echo(json.dumps(value, indent=2, default=str))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; cells that are states are coloured.

    No word is broken and no column left out: sentences are wrapped, and where a row does not fit
    in a line nevertheless, it is several lines.
    """
    cells = [["" if value is None else printable(str(value)) for value in row] for row in rows]
    widths = [
        max([cell_len(column), *(cell_len(row[place]) for row in cells)])
        for place, column in enumerate(columns)
    ]
    available = line_width()
    total = sum(widths) + 2 * len(widths)
    prose = [place for place, column in enumerate(columns) if _is_prose(column, cells, place)]
    least = total - sum(widths[place] - min(widths[place], MIN_PROSE_WIDTH) for place in prose)
    if available is None or total <= available:
        _print_rows(title, columns, cells, (), total)
    elif least <= available:
        _print_rows(title, columns, cells, prose, available)
    else:
        _print_blocks(title, columns, cells)


def _is_prose(column: str, cells: Sequence[Sequence[str]], place: int) -> bool:
    if column in COPIED:
        return False
    return any(" " in row[place] and len(row[place]) > MIN_PROSE_WIDTH for row in cells)


def _print_rows(
    title: str,
    columns: Sequence[str],
    cells: Iterable[Sequence[str]],
    prose: Collection[int],
    width: int,
) -> None:
    table = Table(
        title=title,
        title_justify="left",
        header_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        collapse_padding=True,
        pad_edge=False,
    )
    for place, column in enumerate(columns):
        table.add_column(column, no_wrap=place not in prose)
    for row in cells:
        table.add_row(*(_cell(value) for value in row))
    on = console if width <= console.width else Console(width=width)
    on.print(table)


def _print_blocks(title: str, columns: Sequence[str], cells: Iterable[Sequence[str]]) -> None:
    """Print a paragraph for each row: what it is about, then the rest with its names."""
    console.print(Text(title, style="italic"))
    names = [name for name in HEADINGS if name in columns][:2] or columns[:1]
    for row in cells:
        values = dict(zip(columns, row, strict=True))
        heading = "  ".join(values[name] for name in names if values[name])
        console.print(Text(heading, style="bold"), soft_wrap=True)
        others = [
            (name, value)
            for name, value in values.items()
            if value and name not in {*names, *COPIED}
        ]
        text = ", ".join(_together(f"{name} {value}".strip()) for name, value in others)
        for line in wrapped(f"  {text}") if text else ():
            console.print(_with_states(line.replace(_UNBROKEN, " ")), soft_wrap=True)
        for name in COPIED & values.keys():
            if values[name]:
                typer.echo(f"  {name} {values[name]}")


_UNBROKEN = "\xa0"
"""Stands for a space that no line is wrapped at."""


def _together(words: str) -> str:
    """Return a name with its value so that they are not wrapped, unless it is a sentence."""
    return words.replace(" ", _UNBROKEN) if len(words) <= MIN_PROSE_WIDTH + 16 else words


def _with_states(line: str) -> Text:
    text = Text(line)
    for state, style in STATE_STYLES.items():
        text.highlight_regex(rf"(?<=state ){state}\b", style)
    return text


def duration_text(started: datetime | None, ended: datetime | None) -> str:
    """How long it took from `started` to `ended`; empty where one is not known."""
    return format_seconds((ended - started).total_seconds()) if started and ended else ""


def styled(state: str) -> str:
    """A state in its colour, as rich markup."""
    style = STATE_STYLES.get(state)
    return f"[{style}]{state}[/]" if style else state


def _cell(text: str) -> str:
    return styled(text) if text in STATE_STYLES else escape(text)


def print_addresses(addresses: Mapping[str, str]) -> None:
    """Print the URL of each service."""
    for name, address in addresses.items():
        typer.echo(f"{name:<20} {address}")
