"""Asking before a command is carried out for many."""

import sys
from collections.abc import Iterable
from itertools import islice
from typing import Final

import typer

from batuta.cli.output import echo
from batuta.errors import ConfigurationError

MAX_SHOWN: Final = 20


def show_first(lines: Iterable[str], total: int) -> None:
    """Print the first of `total` lines, and how many there are besides."""
    shown = list(islice(lines, MAX_SHOWN))
    for line in shown:
        echo(f"  {line}")
    if total > len(shown):
        echo(f"  and {total - len(shown):,} more")


def confirm(act: str, count: str, lines: Iterable[str], total: int) -> None:
    """Show what a command is about, and ask.

    Parameters
    ----------
    act : str
        What is done, with ``{}`` where what it is done to is named: ``send {} again``.
    count : str
        To how many, in words.

    Raises
    ------
    ConfigurationError
        If there is nobody to ask.
    """
    show_first(lines, total)
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{count} selected: give --yes to {act.format('them all')}")
    typer.confirm(f"{act.format(count)}?", abort=True)
