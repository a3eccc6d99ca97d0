"""`batuta providers`: how providers answer, and asking again one that is left alone."""

from typing import Annotated, Any

import typer

from batuta.cli.command_list import WATCHING
from batuta.cli.commands.events import short_time
from batuta.cli.option_groups import grouped
from batuta.cli.output import echo, print_json, print_table
from batuta.cli.requests.filter_options import Command


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("providers", rich_help_panel=WATCHING)(grouped(providers))


def providers(
    given: Command,
    close: Annotated[
        str | None,
        typer.Option(
            metavar="PROVIDER",
            help="Request from this provider again, which is left alone because it failed.",
        ),
    ] = None,
) -> None:
    """Show providers, their addresses, and which are left alone because they keep failing."""
    with given.conductor() as conductor:
        if close is not None:
            closed = conductor.close_circuits(close)
            if given.as_json:
                print_json(closed)
                return
            echo(f"{close}: requested from again at {', '.join(closed['closed']) or 'no address'}")
            return
        found = conductor.providers()
    if given.as_json:
        print_json(found)
        return
    rows = [
        [each["provider"], its["address"], its["processings"], _state(its), its["reason"]]
        for each in found
        for its in each["instances"]
    ]
    print_table("Providers", ["provider", "address", "there", "state", "reason"], rows)


def _state(instance: dict[str, Any]) -> str:
    if instance["circuit"] != "closed":
        lost = ", lost" if instance["lost"] else ""
        tried = (
            "being tried"
            if instance["circuit"] == "half-open"
            else f"tried again at {short_time(instance['retry_at'])}"
        )
        return f"circuit open since {short_time(instance['since'])}{lost}, {tried}"
    if instance["full_until"]:
        return f"full until {short_time(instance['full_until'])}"
    return "in use" if instance["in_use"] else "no longer in use"


def circuit_line(provider: str, instance: dict[str, Any]) -> str:
    """Say in one line that an address is left alone."""
    return f"{provider} at {instance['address']}: {_state(instance)}: {instance['reason']}"
