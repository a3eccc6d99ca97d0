"""Commands for whole sets of processings: previewed, confirmed, followed to their end."""

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from batuta.cli.output import echo, print_json
from batuta.cli.requests.confirmation import confirm, show_first
from batuta.cli.requests.filter_options import SetCommand
from batuta.cli.requests.selection import Selection, processing_line
from batuta.errors import BatutaError, ConfigurationError
from batuta.formatting import format_count

if TYPE_CHECKING:
    from batuta.cli.conductor_client import ConductorClient

POLL_INTERVAL_S: Final = 0.2


def carry_out(
    name: str,
    selection: Selection,
    given: SetCommand,
    by_id: Callable[["ConductorClient", Sequence[str]], list[dict[str, Any]]],
    describe: Callable[[dict[str, Any]], str],
    urgency: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Carry out a command for one processing, or for the set that filters select.

    Parameters
    ----------
    by_id : callable
        Carries it out for processings by their ids; returns an answer for each.
    describe : callable
        Says what became of a processing.
    urgency : mapping
        What a set is given, by its names in REST.

    Raises
    ------
    BatutaError
        If nothing is selected, or something is refused.
    """
    with given.conductor() as conductor:
        if not selection.target:
            order_set(conductor, name, selection, given, urgency)
            return
        if given.dry_run:
            raise ConfigurationError("--dry-run with a processing (accepted: with filters)")
        found = selection.processings(conductor)
        answers = by_id(conductor, [each["id"] for each in found])
    subjects = [f"{each['product']} of {each['obs_id']}" for each in found]
    report(subjects, answers, describe, as_json=given.as_json)


def report(
    subjects: Sequence[str],
    answers: Sequence[dict[str, Any]],
    describe: Callable[[dict[str, Any]], str],
    *,
    as_json: bool,
) -> None:
    """Print what became of each; raise what is wrong with some."""
    if as_json:
        single = len(answers) == 1 and answers[0]["problem"] is None
        print_json(answers[0]["processing"] if single else answers)
    problems = []
    for subject, answer in zip(subjects, answers, strict=True):
        if answer["problem"] is not None:
            problems.append(BatutaError(f"{answer['problem']}"))
        elif not as_json:
            echo(f"{subject}: {describe(answer['processing'])}")
    if problems:
        raise BaseExceptionGroup("some were refused", problems)


def order_set(
    conductor: "ConductorClient",
    command: str,
    selection: Selection,
    given: SetCommand,
    urgency: Mapping[str, Any],
) -> None:
    """Show what a command would act on, have it confirmed, order it and follow it to its end.

    Raises
    ------
    BatutaError
        If nothing is selected, or a provider could not be told.
    """
    filters: dict[str, Any] = {**selection.filters}
    preview = conductor.preview(command, filters, urgency)
    if given.dry_run:
        _show(preview, as_json=given.as_json)
        return
    total = preview["total"]
    if not total:
        which = selection.state_words() or f" to {command}"
        raise BatutaError(f"{selection.words()}: no processing{which}")
    if total > 1 and not given.yes:
        lines = map(processing_line, preview["items"])
        confirm(f"{command} {{}}", format_count(total, "processing"), lines, total)
    # What is claimed after the preview is not meant.
    filters.setdefault("until", preview["at"])
    order = conductor.order(command, filters, given.reason, urgency)
    while order["ended"] is None:
        time.sleep(POLL_INTERVAL_S)
        order = conductor.find_order(order["number"])
    if given.as_json:
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
    if preview["refused"]:
        echo(f"  {preview['refused']:,} refused: the graph in force does not make their products")
    show_first(map(processing_line, preview["items"]), preview["total"])
