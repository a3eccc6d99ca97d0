"""`batuta graph versions`: the graphs that were put in force."""

import json
from itertools import islice
from typing import Annotated

import typer

from batuta.cli.clients import conductor_at
from batuta.cli.commands.events import short_time
from batuta.cli.output import CONDUCTOR_URL, AsJson, ConductorUrl, print_json, print_table


def versions(
    number: Annotated[
        int | None, typer.Argument(min=1, help="Print the graph of this version, as JSON.")
    ] = None,
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    limit: Annotated[int, typer.Option(min=1, help="Versions at most, the newest.")] = 100,
    *,
    as_json: AsJson = False,
) -> None:
    """List the graphs that were put in force, the newest first, or print one."""
    with conductor_at(conductor_url) as conductor:
        if number is not None:
            found = conductor.graph_version(number)
            document = found if as_json else found["graph"]
            typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
            return
        listed = list(islice(conductor.graph_versions(), limit))
    if as_json:
        print_json(listed)
        return
    rows = [
        [
            each["number"],
            short_time(each["applied"]),
            each["by"],
            each["digest"][:12],
            "in force" if each["in_force"] else "",
            each["note"],
        ]
        for each in listed
    ]
    print_table("Graph", ["version", "applied", "by", "digest", "", "note"], rows)
