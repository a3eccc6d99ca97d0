"""`batuta prune`: what the rules of retention drop, in the conductor and in pipelines."""

from http import HTTPStatus
from typing import Annotated, Any, Final

import typer

from batuta.cli.commands.products import PANEL
from batuta.cli.option_groups import grouped
from batuta.cli.output import echo, print_json, print_table
from batuta.cli.requests.filter_options import Command
from batuta.formatting import format_bytes

_UNSUPPORTED: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("prune", rich_help_panel=PANEL)(grouped(prune))


def prune(
    given: Command,
    *,
    apply: Annotated[
        bool,
        typer.Option("--apply", help="Archive and drop it now, rather than only show it."),
    ] = False,
) -> None:
    """Show which old records the retention rules drop; with --apply, drop them now."""
    reports, lacking = _reports(given, apply=apply)
    if given.as_json:
        print_json(reports)
        return
    print_table(
        "Dropped" if apply else "To be dropped",
        ["service", "finished_days", "failed_days", "observations", "processings", "free"],
        [_row(each) for each in reports],
    )
    for each in reports:
        for file in each["archive"]:
            echo(f"{each['service']}: archived in {each['rules']['archive']}/{file}")
    for name in lacking:
        echo(f"{name}: has no retention of records that Batuta knows of")
    if all(_keeps_all(each["rules"]) for each in reports):
        echo("no rule is set: see retention in the options of batuta conductor and pipeline")
    elif not apply and any(each["processings"] or each["observations"] for each in reports):
        echo("drop them now with batuta prune --apply; the services do so once a day")


def _reports(given: Command, *, apply: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the reports of the services, and the names of those that have none."""
    from batuta.cli.conductor_client import ConductorClient  # noqa: PLC0415  for --help to be fast
    from batuta.service.client import ServiceError  # noqa: PLC0415

    lacking = []
    with given.conductor() as conductor:
        reports = [conductor.retention(apply=apply)]
        pipelines = {
            each["url"]: each["name"]
            for each in conductor.services()
            if each["kind"] == "pipeline" and each["state"] == "up"
        }
    for url, name in pipelines.items():
        with ConductorClient(url, service=name, operator=given.operator) as pipeline:
            try:
                reports.append(pipeline.retention(apply=apply))
            except ServiceError as exc:
                if exc.status not in _UNSUPPORTED:
                    raise
                lacking.append(name)
    return reports, lacking


def _row(report: dict[str, Any]) -> list[object]:
    free = report["free_bytes"]
    return [
        report["service"],
        report["rules"]["finished_days"],
        report["rules"]["failed_days"],
        report["observations"],
        report["processings"],
        format_bytes(free) if free is not None else "",
    ]


def _keeps_all(rules: dict[str, Any]) -> bool:
    from batuta.service.retention import NEVER  # noqa: PLC0415  for --help to be fast

    return {rules["finished_days"], rules["failed_days"]} == {NEVER}
