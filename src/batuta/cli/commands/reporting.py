"""`batuta report`: what happened in a night, or any other span of time."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final

import typer

from batuta.cli.clients import conductor_at
from batuta.cli.command_list import WATCHING
from batuta.cli.commands.events import short_time
from batuta.cli.output import (
    CONDUCTOR_URL,
    AsJson,
    ConductorUrl,
    echo_wrapped,
    print_json,
    print_table,
)
from batuta.cli.requests.spans import read_span
from batuta.formatting import format_count, format_seconds

COUNTED: Final = (
    "made",
    "failed",
    "retried",
    "cancelled",
    "late",
    "expired",
    "approved",
    "refused",
    "waiting",
    "held",
)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("report", rich_help_panel=WATCHING)(report)


def report(
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    begin: Annotated[
        str | None, typer.Option("--from", help="From this time on: 2h (ago), 2026-11-29T08:00.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="Before this time; by default now.")
    ] = None,
    hours: Annotated[
        float | None, typer.Option(min=0.01, help="The last so many hours; by default 12.")
    ] = None,
    night: Annotated[
        str | None,
        typer.Option(help="The night from 18:00 of this day to 06:00 of the next one, UTC."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Report what was made, late, failed, held and approved in a night, or another span of time."""
    span = read_span(begin, end, hours, night)
    with conductor_at(conductor_url) as conductor:
        found = conductor.report(**span)
    if as_json:
        print_json(found)
        return
    echo_wrapped(_title(found))
    _print_products(found)
    for line in _lines(found):
        echo_wrapped(line)


def _title(found: dict[str, Any]) -> str:
    begin, end = (datetime.fromisoformat(found[name]) for name in ("from", "to"))
    of = format_seconds((end - begin).total_seconds())
    return f"From {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC ({of})"


def _print_products(found: dict[str, Any]) -> None:
    products, total = found["products"], found["total"]
    if not products:
        echo_wrapped("nothing was made, failed, late or waiting")
        return
    counted = [name for name in COUNTED if total[name] or name == "made"]
    timed = [name for name in ("latency", "processing") if total[name]]
    columns = ["product", "provider", *counted, *(_TIMED[name] for name in timed)]
    lines = [*products, {**total, "product": "all"}] if len(products) > 1 else products
    rows = [
        [
            each["product"],
            each["provider"],
            *(_count(each, name) for name in counted),
            *(_spread(each[name]) for name in timed),
        ]
        for each in lines
    ]
    print_table("Products", columns, rows)
    if timed:
        echo_wrapped("times: the median / what 95 % do not exceed")


_TIMED: Final = {"latency": "from input", "processing": "processing"}


def _count(each: dict[str, Any], name: str) -> str:
    number = each[name]
    still = each.get(f"still_{name}")
    if not number:
        return ""
    return f"{number:,} ({still:,} still)" if still else f"{number:,}"


def _spread(spread: dict[str, Any] | None) -> str:
    if spread is None:
        return ""
    return f"{format_seconds(spread['median_s'])} / {format_seconds(spread['p95_s'])}"


def _lines(found: dict[str, Any]) -> Iterator[str]:
    for name, line_of in _LISTS.items():
        listed = found[name]
        for each in listed["items"]:
            yield line_of(each)
        if left := listed["total"] - len(listed["items"]):
            yield f"{left:,} more {name}"
    if found["dead_letters"] is None:
        yield "dead letters: NATS did not tell"
    elif found["dead_letters"]:
        yield f"{format_count(found['dead_letters'], 'dead letter')}: see batuta dead"
    if found["dropped"]:
        yield (
            f"records of {format_count(found['dropped'], 'observation')} heard of since then were "
            "dropped by the rules of retention: what was made of them is not counted"
        )


def _answer_line(each: dict[str, Any]) -> str:
    what = f"{each['verdict']} {each['product']} of {each['obs_id']} by {_who(each['by'])}"
    return f"{short_time(each['time'])} {what}{_because(each['reason'])}"


def _campaign_line(each: dict[str, Any]) -> str:
    name = f" ({each['name']})" if each["name"] else ""
    end = f", ended {short_time(each['ended'])}" if each["ended"] else ""
    failed = f", {each['failed']:,} failed" if each["failed"] else ""
    return (
        f"{short_time(each['started'])} campaign {each['number']}{name} started: {each['state']}, "
        f"{each['made']:,} of {each['total']:,} made{failed}{end}"
    )


def _circuit_line(each: dict[str, Any]) -> str:
    what = "was taken for lost" if each["lost"] else "was left alone"
    still = ", and still is" if each["still"] else ""
    where = f"{each['provider']} at {each['instance']}"
    return f"{short_time(each['time'])} {where} {what}{still}{_because(each['reason'])}"


def _hold_line(each: dict[str, Any]) -> str:
    placed = f"hold of {each['what']} placed by {_who(each['by'])}{_because(each['reason'])}"
    if each["released"] is None:
        return f"{short_time(each['placed'])} {placed}; still in force"
    why = _because(each["release_reason"])
    released = f"released {short_time(each['released'])} by {_who(each['released_by'])}{why}"
    return f"{short_time(each['placed'])} {placed}; {released}"


def _who(label: str | None) -> str:
    return (label or "").removeprefix("operator ")


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""


_LISTS: Final = {
    "answers": _answer_line,
    "campaigns": _campaign_line,
    "circuits": _circuit_line,
    "holds": _hold_line,
}
"""What is told line by line, and how."""
