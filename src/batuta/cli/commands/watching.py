"""`batuta status`, `watch` and `why`: the state of an orchestra, and its explanation."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape
from rich.text import Text

from batuta.cli.clients import conductor_at
from batuta.cli.commands.events import short_time
from batuta.cli.commands.holding import hold_line
from batuta.cli.commands.providers import circuit_line
from batuta.cli.option_groups import grouped
from batuta.cli.output import (
    CONDUCTOR_URL,
    AsJson,
    ConductorUrl,
    console,
    echo,
    echo_wrapped,
    line_width,
    print_json,
    print_table,
    styled,
)
from batuta.cli.requests.filter_options import read_stage
from batuta.cli.requests.nats_options import NatsAccess
from batuta.errors import printable
from batuta.formatting import format_count

if TYPE_CHECKING:
    from batuta.cli.conductor_client import ConductorClient
    from batuta.stages import Stage

PANEL: Final = "Watching"
MAX_STOPS: Final = 10
NEED_ATTENTION: Final = ("retrying", "failed", "held", "unapproved")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("status", rich_help_panel=PANEL)(status)
    app.command("watch", rich_help_panel=PANEL)(grouped(watch))
    app.command("why", rich_help_panel=PANEL)(why)


def status(
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    limit: Annotated[
        int,
        typer.Option(
            min=1,
            help="Observations shown, the latest; and processings, of each state that needs"
            " attention.",
        ),
    ] = 100,
    stage: Annotated[
        str | None,
        typer.Option(
            help="Only observations of which a product is of this stage: preliminary, final, or"
            " a number."
        ),
    ] = None,
    *,
    stale: Annotated[
        bool, typer.Option("--stale", help="Show the products that are stale, and why.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show services, observations, and processings that need attention."""
    of_stage = read_stage(stage)
    with conductor_at(conductor_url) as conductor:
        if stale:
            _print_stale(conductor.first_processings(limit, stale="true"), as_json=as_json)
            return
        found = _read_status(conductor, limit, of_stage)
    if as_json:
        print_json(found)
    else:
        _print_status(found, of_stage)


def watch(
    nats: NatsAccess,
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what is published as JSON, an object a line.")
    ] = False,
) -> None:
    """Show the orchestra live until Ctrl-C."""
    from batuta.cli.live.view import print_events  # noqa: PLC0415  for --help to be fast
    from batuta.cli.live.view import watch as watch_live  # noqa: PLC0415

    config = nats.config()
    if as_json:
        asyncio.run(print_events(config))
        return
    asyncio.run(watch_live(config, conductor_url, console))


def why(
    product: Annotated[str, typer.Argument(help="Name of the product.")],
    obs_id: Annotated[str, typer.Argument(help="The observation.")],
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    *,
    as_json: AsJson = False,
) -> None:
    """Explain why a product was, or was not, made."""
    with conductor_at(conductor_url) as conductor:
        answer = conductor.why(product, obs_id)
    if as_json:
        print_json(answer)
    else:
        for line in answer["words"]:
            echo_wrapped(line)
        _print_profiles(answer["processings"][-1:])


def _read_status(conductor: "ConductorClient", limit: int, stage: "Stage | None") -> dict[str, Any]:
    """Return what `batuta status` shows, as its JSON has it."""
    health = conductor.health()
    return {
        "health": health,
        "services": conductor.services(),
        "summary": conductor.summary(),
        "observations": conductor.latest_observations(
            limit, **({} if stage is None else {"stage": str(stage)})
        ),
        "processings": [
            processing
            for state in NEED_ATTENTION
            for processing in conductor.first_processings(limit, state=state)
        ],
        # Only NATS knows.
        "dead_letters": conductor.dead_letter_count() if health["checks"].get("nats") else None,
        "late_products": conductor.late_count(),
        "holds": conductor.holds(),
        "stops": conductor.stops(),
        "circuits": [
            {"provider": each["provider"], **its}
            for each in conductor.providers()
            for its in each["instances"]
            if its["circuit"] != "closed"
        ],
    }


def _print_status(found: dict[str, Any], stage: "Stage | None") -> None:
    summary, attention = found["summary"], found["processings"]
    _print_health(found["health"])
    _print_services(found["services"])
    if dead := found["dead_letters"]:
        echo(f"{format_count(dead, 'dead letter')}: see batuta dead")
    if late := found["late_products"]:
        echo(f"{format_count(late, 'product')} late: see batuta late")
    for its in found["circuits"]:
        line = escape(circuit_line(its["provider"], its))
        _print_line(f"[bold red]{line}[/]: see batuta providers")
    for each in found["holds"]:
        echo_wrapped(f"{hold_line(each)}: see batuta holds")
    _print_stops(found["stops"])
    if summary["to_approve"]:
        echo(f"{summary['to_approve']:,} waiting for approval: see batuta approvals")
    if summary["stale"]:
        echo(f"{format_count(summary['stale'], 'product')} stale: see batuta status --stale")
    _print_observations(found["observations"], summary, stage)
    if attention:
        _print_attention(attention, sum(summary["processings"].get(s, 0) for s in NEED_ATTENTION))


def _print_stale(processings: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(processings)
        return
    if not processings:
        echo("nothing is stale")
    for each in processings:
        what = escape(printable(f"{each['obs_id']} {each['product']}"))
        since = short_time(each["stale_since"])
        _print_line(f" {what} stale since {since}: {escape(printable(each['stale_because']))}")


def _print_stops(stops: list[dict[str, Any]]) -> None:
    for each in stops[:MAX_STOPS]:
        _print_line(_stop_line(each))
    if len(stops) > MAX_STOPS:
        echo(f"{len(stops) - MAX_STOPS:,} more were stopped, and not at their providers yet")


def _stop_line(stop: dict[str, Any]) -> str:
    what = escape(printable(f"{stop['obs_id']} {stop['product']}"))
    since = short_time(stop["since"])
    if stop["problem"] is None:
        return f"[bold]{what}[/] stopped at {since}; {stop['provider']} is being told"
    problem = escape(printable(stop["problem"]))
    again = short_time(stop["next_try"])
    return (
        f"[bold red]{what}[/] stopped at {since}, and not at {escape(stop['provider'])}: {problem};"
        f" told again at {again}"
    )


def _print_health(health: dict[str, Any]) -> None:
    for what, well in health["checks"].items():
        if not well:
            problem = printable(health.get("problems", {}).get(what, "not healthy"))
            # By it services tell how they are.
            since = (
                "; the states of services below are out of date until it is back"
                if what == "nats"
                else ""
            )
            console.print(f"[bold red]{what}: {escape(problem)}[/]{since}")


def _print_services(services: list[dict[str, Any]]) -> None:
    keys = ("name", "kind", "state", "queued", "running", "url")
    rows = [[service.get(key) for key in keys] for service in services]
    print_table("Services", keys, rows)
    for service in services:
        if notice := service.get("notice"):
            echo(f"{service['name']}: {notice}")


def _print_observations(
    observations: list[dict[str, Any]], summary: dict[str, Any], stage: "Stage | None"
) -> None:
    states = sorted(summary["processings"])
    rows = [
        [
            observation["obs_id"],
            observation["available"],
            *(observation["processings"].get(state, "") for state in states),
        ]
        for observation in observations
    ]
    total = format_count(summary["observations"], "observation")
    if len(observations) < summary["observations"]:
        which = "" if stage is None else f" of stage {stage}"
        total += f"; the latest {len(observations):,}{which}"
        of_all = [summary["processings"][state] for state in states]
        rows.append(["all", sum(each["available"] for each in summary["products"]), *of_all])
    print_table(total, ["observation", "available", *states], rows)


def _print_attention(processings: list[dict[str, Any]], total: int) -> None:
    """Print a paragraph for each: a cause is a sentence, which no column is wide enough for."""
    more = f" ({len(processings):,} of {total:,})" if len(processings) < total else ""
    echo(f"Processings that need attention{more}")
    for each in processings:
        state = styled(each["state"])
        what = escape(printable(f"{each['obs_id']} {each['product']}"))
        maker = escape(printable(f"attempt {each['attempt']} by {each['provider']}"))
        _print_line(f" {what} {state}, {maker}")
        _print_line(f"   {escape(printable(each['id']))}")
        if each.get("error"):
            _print_line(f"   {escape(printable(each['error']))}")
    _print_profiles(processings)


def _print_line(markup: str) -> None:
    text, width = Text.from_markup(markup), line_width()
    if width is None:
        console.print(text, soft_wrap=True)
        return
    first, *rest = text.wrap(console, width - len(_INDENT))
    console.print(first, soft_wrap=True)
    for line in rest:
        console.print(Text.assemble(_INDENT, line), soft_wrap=True)


_INDENT: Final = "     "


def _print_profiles(processings: list[dict[str, Any]]) -> None:
    """Print the URLs of their profiles, each on its own line to be copied or clicked."""
    for processing in processings:
        if profile := processing.get("profile"):
            echo(f"profile of {processing['product']} of {processing['obs_id']}: {profile}")
