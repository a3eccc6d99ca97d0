"""`batuta campaign`: make products of many observations again, or those that lack."""

import sys
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from batuta.cli.clients import conductor_at
from batuta.cli.command_list import PRODUCTS
from batuta.cli.commands.events import short_time
from batuta.cli.option_groups import grouped
from batuta.cli.output import CONDUCTOR_URL, AsJson, ConductorUrl, echo, print_json, print_table
from batuta.cli.requests.filter_options import Command
from batuta.cli.requests.times import read_moment
from batuta.errors import ConfigurationError
from batuta.formatting import format_count, format_percent, format_seconds
from batuta.work_classes import WorkClass

SCOPES: Final = ("missing", "stale", "failed")
ENDS: Final = ("failed", "skipped", "cancelled", "blocked", "ready", "awaiting", "open")
MAX_REASONS: Final = 10

campaign = typer.Typer(
    help="Make products of many observations again, or those that lack: planned, then started.",
    no_args_is_help=True,
)

Number = Annotated[int, typer.Argument(metavar="N", min=1, help="Its number.")]
Why = Annotated[str | None, typer.Option("--reason", help="Why; kept with the campaign.")]


def register(app: typer.Typer) -> None:
    """Add the group to `app`."""
    app.add_typer(campaign, name="campaign", rich_help_panel=PRODUCTS)


@campaign.command()
@grouped
def plan(  # noqa: PLR0913, PLR0917  each is an option
    given: Command,
    product: Annotated[
        list[str] | None, typer.Option(help="A product; * is any text. May be repeated.")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(help="Only where it is missing, stale or failed; else wherever it can."),
    ] = None,
    obs_id: Annotated[
        list[str] | None,
        typer.Option(help="Of this observation; 'sb25*' is all of 2025. May be repeated."),
    ] = None,
    obs_file: Annotated[
        Path | None, typer.Option(help="Of those that a file names, one a line; - is the input.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Of those first heard of from then on: 7d (ago), or 2026-11-29T08:00."),
    ] = None,
    until: Annotated[str | None, typer.Option(help="Of those first heard of before.")] = None,
    graph: Annotated[
        Path | None, typer.Option(help="What this new graph starts, or makes stale.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What it is called.")] = None,
    work_class: Annotated[
        WorkClass | None,
        typer.Option("--class", help="By default reprocess; backfill with --only missing."),
    ] = None,
    priority: Annotated[
        int | None, typer.Option(help="Within its class; by default that of each product.")
    ] = None,
    max_concurrent: Annotated[
        int | None, typer.Option(help="Processings at a time; by default 1000.")
    ] = None,
    *,
    downstream: Annotated[
        bool, typer.Option("--downstream", help="And all that follows from them, in order.")
    ] = False,
) -> None:
    """Plan a campaign: what it would make, and how long that takes. Nothing is changed."""
    if only is not None and only not in SCOPES:
        raise ConfigurationError(f"--only {only!r:.80}: (accepted: {', '.join(SCOPES)})")
    values = {
        "products": product,
        "scope": only,
        "obs_ids": [*(obs_id or []), *_names_in(obs_file)],
        "since": read_moment("--since", since),
        "until": read_moment("--until", until),
        "graph": _document(graph),
        "name": name,
        "class": work_class,
        "priority": priority,
        "max_concurrent": max_concurrent,
        "downstream": downstream or None,
    }
    order = {key: value for key, value in values.items() if value not in (None, [])}
    with given.conductor() as conductor:
        planned = conductor.plan_campaign(order)
    if given.as_json:
        print_json(planned)
        return
    _print_plan(planned)
    if planned["state"] == "planned":
        echo(f"start it: batuta campaign start {planned['number']}")


@campaign.command()
@grouped
def start(number: Number, given: Command) -> None:
    """Start a planned campaign."""
    _order(number, "start", given)


@campaign.command()
@grouped
def pause(number: Number, given: Command, reason: Why = None) -> None:
    """Request nothing more of a campaign until it is resumed; what runs goes on."""
    _order(number, "pause", given, reason)


@campaign.command()
@grouped
def resume(number: Number, given: Command) -> None:
    """Go on with a paused campaign."""
    _order(number, "resume", given)


@campaign.command()
@grouped
def cancel(number: Number, given: Command, reason: Why = None) -> None:
    """Request nothing more of a campaign, for good; what runs goes on to its end."""
    _order(number, "cancel", given, reason)


@campaign.command("list")
def list_all(
    state: Annotated[str | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Campaigns at most, the newest.")] = 100,
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    *,
    as_json: AsJson = False,
) -> None:
    """List campaigns, the newest first."""
    filters = {} if state is None else {"state": state}
    with conductor_at(conductor_url) as conductor:
        found = list(islice(conductor.campaigns(**filters), limit))
    if as_json:
        print_json(found)
        return
    rows = [
        [
            each["number"],
            each["name"],
            each["state"],
            each["class"],
            _done(each["progress"]),
            each["progress"]["failed"],
            short_time(each["created"]),
            short_time(each["ended"] or each["estimated_end"] or ""),
        ]
        for each in found
    ]
    columns = ["number", "name", "state", "class", "done", "failed", "planned", "end"]
    print_table("Campaigns", columns, rows)


@campaign.command()
def show(
    number: Number,
    state: Annotated[
        str | None, typer.Option(help=f"List what is {', '.join(ENDS)}: of which observations.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Of these, at most.")] = 100,
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    *,
    as_json: AsJson = False,
) -> None:
    """Show a campaign: its plan, how far it is, and when it is expected to end."""
    if state is not None and state not in ENDS:
        raise ConfigurationError(f"--state {state!r:.80}: (accepted: {', '.join(ENDS)})")
    with conductor_at(conductor_url) as conductor:
        if state is not None:
            found = list(islice(conductor.campaign_items(number, state), limit))
        else:
            shown = conductor.campaign(number)
    if state is None:
        if as_json:
            print_json(shown)
            return
        _print_plan(shown)
        _print_progress(shown)
        return
    if as_json:
        print_json(found)
        return
    rows = [[each["product"], each["obs_id"], each["state"], each["reason"]] for each in found]
    print_table(f"Campaign {number}", ["product", "observation", "state", "reason"], rows)


@campaign.command()
def report(
    number: Number, conductor_url: ConductorUrl = CONDUCTOR_URL, *, as_json: AsJson = False
) -> None:
    """Show what an ended campaign has made, product by product, and why not all."""
    with conductor_at(conductor_url) as conductor:
        found = conductor.campaign_report(number)
    if as_json:
        print_json(found)
        return
    _print_report(found)


# ---------------------------------------------------------------------- what is sent


def _order(number: int, order: str, given: Command, reason: str | None = None) -> None:
    with given.conductor() as conductor:
        now = conductor.order_campaign(number, order, reason)
    if given.as_json:
        print_json(now)
        return
    echo(f"{_title(now)}: {now['state']}")
    _print_progress(now)


def _names_in(file: Path | None) -> list[str]:
    """Return the names that a file has, one a line; blank lines and ``#`` lines are left out."""
    if file is None:
        return []
    from batuta.yaml_text import read_text  # noqa: PLC0415  for --help to be fast

    text = sys.stdin.read() if str(file) == "-" else read_text(file)
    lines = (line.strip() for line in text.splitlines())
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise ConfigurationError(f"--obs-file {file}: names no observation (accepted: one a line)")
    return names


def _document(graph: Path | None) -> dict[str, object] | None:
    if graph is None:
        return None
    from batuta.graph import read_graph  # noqa: PLC0415  for --help to be fast

    return read_graph(graph).as_document()


# ---------------------------------------------------------------------- what is shown


def _title(shown: dict[str, Any]) -> str:
    return f"campaign {shown['number']}" + (f" ({shown['name']})" if shown["name"] else "")


def _print_plan(shown: dict[str, Any]) -> None:
    plan = shown["plan"]
    if plan is None:
        echo(f"{_title(shown)}: {shown['state']}")
        return
    of = format_count(plan["observations"], "observation")
    what = format_count(plan["processings"], "processing")
    terms = f"class {shown['class']}, {shown['max_concurrent']:,} at a time"
    if shown["priority"] is not None:
        terms += f", priority {shown['priority']}"
    echo(f"{_title(shown)}: {what} of {of} ({plan['looked_at']:,} looked at), {terms}")
    rows = [
        [
            each["product"],
            each["provider"],
            f"{each['processings']:,}",
            f"{each['lacking']:,}" if each["lacking"] else "",
            "" if each["mean_s"] is None else format_seconds(each["mean_s"]),
        ]
        for each in plan["products"]
    ]
    columns = ["product", "provider", "processings", "lack inputs", "each took"]
    print_table("Plan", columns, rows)
    for each in plan["products"]:
        if each["approval"] and each["processings"]:
            echo(f"each {each['product']} waits for approval {each['approval']} it is made")
    if plan["unknown"]:
        names = ", ".join(plan["unknown_names"])
        more = ", ..." if plan["unknown"] > len(plan["unknown_names"]) else ""
        echo(f"nothing is recorded of {plan['unknown']:,}: {names}{more}")
    echo(_estimate(plan))


def _estimate(plan: dict[str, Any]) -> str:
    without = ", ".join(plan["without_record"])
    if not plan["processings"]:
        return "nothing is to be made: there is nothing to start"
    if plan["estimate_s"] is None:
        return f"no estimate: no record of how long {without} takes"
    at_once = ", ".join(f"{each['at_once']} at {each['provider']}" for each in plan["providers"])
    counted = f", without {without}, not made before" if without else ""
    return f"takes about {format_seconds(plan['estimate_s'])}, with {at_once} at once{counted}"


def _done(progress: dict[str, Any]) -> str:
    total = progress["total"]
    share = f" ({format_percent(progress['done'] / total)})" if total else ""
    return f"{progress['done']:,} of {total:,}{share}"


def _print_progress(shown: dict[str, Any]) -> None:
    progress = shown["progress"]
    if shown["state"] in ("planning", "planned"):
        return
    numbers = ", ".join(
        f"{progress[name]:,} {name}"
        for name in ("made", "failed", "skipped", "cancelled", "open", "awaiting")
        if progress[name]
    )
    echo(f"{_done(progress)} done{f': {numbers}' if numbers else ''}")
    if progress["unapproved"]:
        echo(f"waiting for a person: {progress['unapproved']:,}: see batuta approvals")
    if shown["reason"]:
        echo(f"reason: {shown['reason']}")
    if shown["estimated_end"]:
        echo(f"ends about {short_time(shown['estimated_end'])}, as it goes on")
    if shown["ended"]:
        echo(f"what became of it: batuta campaign report {shown['number']}")


def _print_report(found: dict[str, Any]) -> None:
    ran = format_seconds(found["ran_s"])
    expected = found["estimate_s"]
    estimate = "" if expected is None else f", planned {format_seconds(expected)}"
    ended = datetime.fromisoformat(found["ended"])
    reason = f": {found['reason']}" if found["reason"] else ""
    echo(
        f"{_title(found)}: {found['state']} at {ended:%Y-%m-%d %H:%M:%S}{reason}, "
        f"after {ran}{estimate}"
    )
    names = ("planned", "made", "failed", "skipped", "cancelled", "not_begun")
    rows = [
        [each["product"], each["provider"], *(f"{each[name]:,}" for name in names)]
        for each in found["products"]
    ]
    print_table("Report", ["product", "provider", *names[:-1], "not begun"], rows)
    for each in found["products"]:
        for why in each["reasons"][:MAX_REASONS]:
            echo(
                f"{each['product']} {why['state']} {why['number']:,} times: {why['reason']} "
                f"(such as {why['example']})"
            )
