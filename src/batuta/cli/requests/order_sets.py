"""Commands for whole sets of processings: previewed, confirmed, followed to their end."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from batuta.cli.output import echo, print_json
from batuta.cli.requests.selection import LAST_ATTEMPT_FAILED, Selection
from batuta.cli.requests.times import read_moment
from batuta.errors import BatutaError, ConfigurationError
from batuta.formatting import format_count
from batuta.work_classes import WorkClass

if TYPE_CHECKING:
    from batuta.cli.conductor_client import ConductorClient

POLL_INTERVAL_S: Final = 0.2

States = Annotated[
    list[str] | None, typer.Option("--state", help="In this state; may be repeated.")
]
OfClass = Annotated[WorkClass | None, typer.Option("--class", help="Of this class of work.")]
Since = Annotated[
    str | None, typer.Option(help="Claimed from this time on: 2h (ago), or 2026-11-29T08:00.")
]
Until = Annotated[str | None, typer.Option(help="Claimed before this time.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only show how many are selected, and which.")
]


@dataclass(frozen=True, kw_only=True)
class How:
    """Whether a command asks first, only shows, and prints JSON."""

    yes: bool
    dry_run: bool
    as_json: bool


def more_filters(
    states: list[str] | None, work_class: WorkClass | None, since: str | None, until: str | None
) -> dict[str, Any]:
    """Return filters of sets as REST takes them, besides those of a `Selection`."""
    given = {
        "state": states or None,
        "class": None if work_class is None else work_class.value,
        "since": read_moment("--since", since),
        "until": read_moment("--until", until),
    }
    return {name: value for name, value in given.items() if value is not None}


def order_set(
    conductor: "ConductorClient",
    command: str,
    selection: Selection,
    more: Mapping[str, Any],
    reason: str | None,
    how: How,
) -> None:
    """Show what a command would act on, have it confirmed, order it and follow it to its end.

    Raises
    ------
    BatutaError
        If nothing is selected, or a provider could not be told.
    """
    filters: dict[str, Any] = {**selection.filters, **more}
    if selection.failed:
        filters.setdefault("state", list(LAST_ATTEMPT_FAILED))
    preview = conductor.preview(command, filters)
    if how.dry_run:
        _show(preview, as_json=how.as_json)
        return
    if not preview["total"]:
        raise BatutaError(_nothing(command, selection, filters))
    if preview["total"] > 1 and not how.yes:
        _confirm(command, preview)
    # What is claimed after the preview is not meant.
    filters.setdefault("until", preview["at"])
    order = conductor.order(command, filters, reason)
    while order["ended"] is None:
        time.sleep(POLL_INTERVAL_S)
        order = conductor.find_order(order["number"])
    if how.as_json:
        print_json(order)
    else:
        changed = format_count(order["changed"], "processing")
        echo(f"{command}: {changed} changed, of {order['selected']:,} selected")
    if order["problem"] is not None:
        raise BatutaError(f"order {order['number']}: {order['problem']}")


def _show(preview: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(preview)
        return
    echo(f"{format_count(preview['total'], 'processing')} selected")
    for name in ("by_state", "by_product"):
        if preview[name]:
            echo("  " + ", ".join(f"{key} {count:,}" for key, count in preview[name].items()))
    _show_first(preview)


def _show_first(preview: Mapping[str, Any]) -> None:
    items: Sequence[Mapping[str, Any]] = preview["items"]
    for each in items:
        echo(f"  {each['product']} of {each['obs_id']}: {each['state']} ({each['id']})")
    if preview["total"] > len(items):
        echo(f"  and {preview['total'] - len(items):,} more")


def _confirm(command: str, preview: Mapping[str, Any]) -> None:
    count = format_count(preview["total"], "processing")
    _show_first(preview)
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{count} selected: give --yes to {command} them all")
    typer.confirm(f"{command} {count}?", abort=True)


def _nothing(command: str, selection: Selection, filters: Mapping[str, Any]) -> str:
    named = {**selection.filters, **filters}
    named.pop("until", None)
    states = named.pop("state", None)
    shown = ", ".join(f"{name} {value}" for name, value in named.items()) or "all"
    which = f" that is {' or '.join(states)}" if states else f" to {command}"
    return f"{shown}: no processing{which}"
