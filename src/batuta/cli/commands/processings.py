"""`batuta processings`, `make`, `retry`, `cancel` and `log`: processings, one or many."""

import time
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from batuta.cli.clients import conductor_at
from batuta.cli.command_list import PRODUCTS, WATCHING
from batuta.cli.commands.events import short_time
from batuta.cli.option_groups import grouped
from batuta.cli.output import CONDUCTOR_URL, AsJson, ConductorUrl, print_json, print_table
from batuta.cli.requests.confirmation import confirm
from batuta.cli.requests.filter_options import (
    AskingCommand,
    ByName,
    Failed,
    Filters,
    SetCommand,
    Stale,
    Target,
    without_none,
)
from batuta.cli.requests.order_sets import carry_out, report
from batuta.cli.requests.selection import Selection, processing_line
from batuta.errors import ConfigurationError
from batuta.formatting import format_count
from batuta.work_classes import WorkClass

if TYPE_CHECKING:
    from batuta.cli.conductor_client import ConductorClient

ENDED: Final = ("succeeded", "failed", "cancelled")
FOLLOW_INTERVAL_S: Final = 0.3


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (make, retry, cancel, reprioritize, log):
        app.command(rich_help_panel=PRODUCTS)(grouped(command))
    app.command("processings", rich_help_panel=WATCHING)(grouped(list_all))


def list_all(
    filters: Filters,
    limit: Annotated[int, typer.Option(min=1, help="Processings at most, the newest.")] = 100,
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    *,
    failed: Failed = False,
    stale: Stale = False,
    as_json: AsJson = False,
) -> None:
    """List processings, the newest first; all, or those that filters select."""
    given = filters.given | ({"stale": "true"} if stale else {})
    selection = Selection.listed(given, failed=failed)
    with conductor_at(conductor_url) as conductor:
        found = list(islice(selection.newest(conductor), limit))
    if as_json:
        print_json(found)
        return
    rows = [
        [*(each[key] for key in _COLUMNS), short_time(each["created"]), each["error"]]
        for each in found
    ]
    print_table("Processings", [*_COLUMNS.values(), "claimed", "error"], rows)


_COLUMNS: Final = {
    "id": "id",
    "product": "product",
    "obs_id": "observation",
    "state": "state",
    "class": "class",
    "priority": "priority",
    "stage": "stage",
    "campaign": "campaign",
    "provider": "provider",
    "attempt": "attempt",
}


def make(
    names: ByName,
    given: AskingCommand,
    target: Target = None,
    *,
    failed: Failed = False,
    stale: Stale = False,
    downstream: Annotated[
        bool, typer.Option("--downstream", help="Then all that follows from it, in order.")
    ] = False,
    work_class: Annotated[
        WorkClass | None,
        typer.Option("--class", help="How urgent it is, with all that follows from it."),
    ] = None,
) -> None:
    """Request a product now, whether or not it was made before."""
    filters = {**({"stale": "true"} if stale else {}), **names.given}
    selection = Selection.of(target, filters, failed=failed)
    with given.conductor() as conductor:
        orders = _products(conductor, selection, yes=given.yes)
        if downstream:
            from batuta.cli.requests.remaking import remake_downstream  # noqa: PLC0415  for --help to be fast

            remake_downstream(conductor, orders, work_class, as_json=given.as_json)
            return
        answers = conductor.make_many(orders, work_class)
    subjects = [f"{product} of {obs_id}" for product, obs_id in orders]
    report(subjects, answers, _requested, as_json=given.as_json)


def retry(
    filters: Filters, given: SetCommand, target: Target = None, *, failed: Failed = False
) -> None:
    """Retry what failed, was cancelled or waits to be retried: now, with all attempts again."""
    carry_out(
        "retry",
        Selection.of(target, filters.given, failed=failed),
        given,
        lambda conductor, ids: conductor.retry_many(ids, given.reason),
        lambda _: "retrying",
    )


def cancel(filters: Filters, given: SetCommand, target: Target = None) -> None:
    """Stop processings that have not ended, at their providers too."""
    carry_out(
        "cancel",
        Selection.of(target, filters.given),
        given,
        lambda conductor, ids: conductor.cancel_many(ids, given.reason),
        _cancelled,
    )


def reprioritize(
    filters: Filters,
    given: SetCommand,
    target: Target = None,
    to_class: Annotated[
        WorkClass | None,
        typer.Option("--to-class", help="Its new class, and that of all that follows from it."),
    ] = None,
    to_priority: Annotated[
        int | None,
        typer.Option("--to-priority", help="Its new priority: the highest of a class goes first."),
    ] = None,
) -> None:
    """Change the class or the priority of what is to be made; what runs stays as it is."""
    of_class = None if to_class is None else to_class.value
    urgency = without_none({"class": of_class, "priority": to_priority})
    if not urgency:
        raise ConfigurationError("nothing to change given (accepted: --to-class, --to-priority)")
    carry_out(
        "reprioritize",
        Selection.of(target, filters.given),
        given,
        lambda conductor, ids: conductor.reprioritize_many(ids, urgency, given.reason),
        lambda each: f"class {each['class']}, priority {each['priority']}",
        urgency,
    )


def log(
    target: Target = None,
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the processing has ended.")
    ] = False,
    tail: Annotated[
        int | None, typer.Option(help="Only so many lines, the last ones.", min=1)
    ] = None,
    attempt: Annotated[
        int | None,
        typer.Option(help="Only this attempt, where its pipeline keeps them apart.", min=1),
    ] = None,
    workers: Annotated[
        bool, typer.Option("--workers", help="The logs of the workers that computed its tiles.")
    ] = False,
) -> None:
    """Print the log of a processing: all attempts, all that its function printed."""
    if not target:
        raise ConfigurationError("no processing given (accepted: ID, or PRODUCT OBS_ID)")
    given = {"--workers": workers, "--follow": follow, "--attempt": attempt is not None}
    together = [option for option, is_given in given.items() if is_given]
    if len(together) > 1:
        raise ConfigurationError(f"{' with '.join(together)} (accepted: one of them)")
    from batuta.cli.requests.log_reader import LogReader  # noqa: PLC0415  for --help to be fast

    selection = Selection.of(target)
    with conductor_at(conductor_url) as conductor:
        (processing,) = selection.processings(conductor)
        with closing(LogReader(conductor_url, processing, attempt)) as reader:
            if workers:
                reader.print_workers()
                return
            reader.print_new(tail)
            while follow and not _has_ended(conductor, processing):
                time.sleep(FOLLOW_INTERVAL_S)
                reader.print_new()
            if follow:
                reader.print_new()


def _has_ended(conductor: "ConductorClient", processing: dict[str, Any]) -> bool:
    return conductor.processing(processing["id"])["state"] in ENDED


def _products(
    conductor: "ConductorClient", selection: Selection, *, yes: bool
) -> list[tuple[str, str]]:
    """Return what is selected, each product of an observation once, confirmed if it is many."""
    if len(selection.target) == 2:
        return [(selection.target[0], selection.target[1])]
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for each in selection.processings(conductor):
        newest.setdefault((each["product"], each["obs_id"]), each)
    if len(newest) > 1 and not yes:
        lines = map(processing_line, newest.values())
        confirm("make {}", format_count(len(newest), "processing"), lines, len(newest))
    return list(newest)


def _cancelled(processing: dict[str, Any]) -> str:
    state = str(processing["state"])
    return state if state == "cancelled" else f"not cancelled: it has {state} already"


def _requested(processing: dict[str, Any]) -> str:
    return f"processing {processing['id']} requested from {processing['provider']}"
