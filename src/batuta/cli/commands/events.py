"""`batuta events`: what was received, and how each has ended."""

from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any, Final

import typer

from batuta.cli.clients import conductor_at
from batuta.cli.command_list import WATCHING
from batuta.cli.output import CONDUCTOR_URL, AsJson, ConductorUrl, echo, print_json, print_table
from batuta.cli.requests.times import read_moment
from batuta.errors import ConfigurationError

OUTCOMES: Final = ("triggered", "waiting", "ignored")

Since = Annotated[
    str | None, typer.Option(help="Only from this time on: 2h (ago), or 2026-11-29T08:00.")
]
Until = Annotated[str | None, typer.Option(help="Only before this time.")]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("events", rich_help_panel=WATCHING)(events)


def events(  # noqa: PLR0913, PLR0917  each is an option
    event_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One event, with what it has caused.")
    ] = None,
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    outcome: Annotated[
        str | None, typer.Option(help="Only those that ended so: triggered, waiting, ignored.")
    ] = None,
    product: Annotated[str | None, typer.Option(help="Only of this product.")] = None,
    obs_id: Annotated[str | None, typer.Option(help="Only of this observation.")] = None,
    source: Annotated[str | None, typer.Option(help="Only of data.SOURCE.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="Events at most, the latest.")] = 100,
    *,
    orders: Annotated[
        bool, typer.Option("--orders", help="What operators have ordered, instead.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what was received on data.*, and what each event has triggered, or why nothing."""
    given = {
        "outcome": outcome,
        "product": product,
        "obs_id": obs_id,
        "source": source,
        "since": read_moment("--since", since),
        "until": read_moment("--until", until),
    }
    filters = {name: value for name, value in given.items() if value is not None}
    if outcome is not None and outcome not in OUTCOMES:
        raise ConfigurationError(f"--outcome {outcome!r:.80}: (accepted: {', '.join(OUTCOMES)})")
    if event_id is not None and filters:
        raise ConfigurationError(f"{event_id} and filters given (accepted: ID, or filters)")
    if orders and (event_id is not None or filters.keys() - {"since", "until"}):
        raise ConfigurationError(
            "--orders with ID or filters of events (accepted: --since, --until)"
        )
    with conductor_at(conductor_url) as conductor:
        if orders:
            _print_orders(list(islice(conductor.orders(**filters), limit)), as_json=as_json)
            return
        if event_id is not None:
            found = conductor.event(event_id)
        else:
            listed = list(islice(conductor.events(**filters), limit))
    if as_json:
        print_json(listed if event_id is None else found)
    elif event_id is None:
        _print_list(listed)
    else:
        _print_event(found)


def _print_orders(listed: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(listed)
        return
    columns = ["number", "time", "command", "about", "changed", "by", "reason"]
    rows = [
        [
            each["number"],
            short_time(each["time"]),
            each["command"],
            _words(each["about"]),
            f"{each['changed']:,}" + ("" if each["ended"] else " so far"),
            each["by"].removeprefix("operator "),
            each["reason"],
        ]
        for each in listed
    ]
    print_table("Orders", columns, rows)


def _words(value: Any) -> str:
    """Return what an order is about, for people: ``product B, state waiting or held``."""
    if isinstance(value, dict):
        said = {name: each for name, each in value.items() if each not in (None, [], False, "")}
        return ", ".join(f"{name} {_words(_moment(name, each))}" for name, each in said.items())
    return " or ".join(map(str, value)) if isinstance(value, list) else str(value)


def _moment(name: str, value: Any) -> Any:
    """Return the times of a set, which are recorded as numbers, as they are shown."""
    if name in {"since", "until"} and isinstance(value, float):
        return short_time(datetime.fromtimestamp(value, UTC).isoformat())
    return value


def _print_list(listed: list[dict[str, Any]]) -> None:
    about = ["product", "observation", "version", "stage"]
    columns = ["received", "source", *about, "outcome", "", "id"]
    rows = [
        [
            short_time(each["received"]),
            each["source"],
            each["product"],
            each["obs_id"],
            each["version"],
            each["stage"],
            each["outcome"],
            what_followed(each),
            each["id"],
        ]
        for each in listed
    ]
    print_table("Events", columns, rows)


def _print_event(event: dict[str, Any]) -> None:
    about = f"{event['product']} of {event['obs_id']}" if event["product"] else "not read"
    version = f", version {event['version']}" if event["version"] else ""
    version += f" ({event['stage']})" if event["stage"] else ""
    number = f"data.{event['source']}#{event['sequence']}"
    echo(f"{about}{version}: received at {event['received']} as {number}")
    echo(f"{event['outcome']}: {what_followed(event)}")
    for each in event["processings"]:
        error = f": {each['error']}" if each["error"] else ""
        echo(f"  {each['product']} is now {each['state']}{error} ({each['id']})")
    for product, lacks in event["lacking"].items():
        now = f"still lacks {', '.join(lacks)}" if lacks else "lacks nothing any more"
        echo(f"  {product} {now}")
    for each in event["repeats"]:
        echo(f"repeated at {each['received']}: {each['outcome']}: {what_followed(each)}")


def what_followed(event: dict[str, Any]) -> str:
    """Return what an event has caused, or why nothing, in words."""
    parts = [f"{', '.join(event['triggered'])}"] if event["triggered"] else []
    parts += [f"{name} waits for {', '.join(lacks)}" for name, lacks in event["waiting"].items()]
    return "; ".join([*parts, *([event["reason"]] if event["reason"] else [])])


def short_time(time: str) -> str:
    """Return a time of REST to the second, for tables."""
    return time[:19].replace("T", " ")
