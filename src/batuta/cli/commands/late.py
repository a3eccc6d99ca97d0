"""`batuta late`: products that were due and are not there."""

from itertools import islice
from typing import Annotated

import typer

from batuta.cli.clients import conductor_at
from batuta.cli.command_list import WATCHING
from batuta.cli.commands.events import short_time
from batuta.cli.output import CONDUCTOR_URL, AsJson, ConductorUrl, echo, print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("late", rich_help_panel=WATCHING)(late)


def late(
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    product: Annotated[str | None, typer.Option(help="Only this product.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Products at most, the latest first.")] = 100,
    *,
    as_json: AsJson = False,
) -> None:
    """Show the products that were due and are not available, the one due first at the top."""
    filters = {} if product is None else {"product": product}
    with conductor_at(conductor_url) as conductor:
        found = list(islice(conductor.late_products(**filters), limit))
    if as_json:
        print_json(found)
        return
    if not found:
        echo("nothing is late")
        return
    rows = [
        [
            each["product"],
            each["obs_id"],
            short_time(each["due"]),
            each["state"],
            short_time(each["expires"] or ""),
        ]
        for each in found
    ]
    print_table("Late", ["product", "observation", "due", "state", "expires"], rows)
