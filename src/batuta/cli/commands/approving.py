"""`batuta approvals`, `approve` and `refuse`: what waits for a person."""

import sys
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batuta.cli.clients import conductor_at
from batuta.cli.commands.events import short_time
from batuta.cli.lazy_commands import PRODUCTS, WATCHING
from batuta.cli.output import (
    CONDUCTOR_URL,
    AsJson,
    ConductorUrl,
    Operator,
    echo,
    print_json,
    print_table,
)
from batuta.cli.requests.selection import MAX_SHOWN, ByObsId, ByProduct, Yes
from batuta.errors import BatutaError, ConfigurationError
from batuta.formatting import format_count

if TYPE_CHECKING:
    from batuta.cli.conductor_client import ConductorClient

Target = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PRODUCT OBS_ID]", help="What waits, by its product."),
]
Version = Annotated[
    str | None,
    typer.Option(
        "--version",
        help="What was looked at, as batuta approvals shows it; refused if it has changed.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("approvals", rich_help_panel=WATCHING)(approvals)
    app.command("approve", rich_help_panel=PRODUCTS)(approve)
    app.command("refuse", rich_help_panel=PRODUCTS)(refuse)


def approvals(
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    product: ByProduct = None,
    obs_id: ByObsId = None,
    limit: Annotated[int, typer.Option(min=1, help="So many at most, the oldest.")] = 100,
    *,
    as_json: AsJson = False,
) -> None:
    """List what waits for a person's approval, the oldest first."""
    with conductor_at(conductor_url) as conductor:
        found = list(islice(conductor.approvals(**_filters(product, obs_id)), limit))
    if as_json:
        print_json(found)
        return
    if not found:
        echo("nothing waits for approval")
        return
    rows = [
        [
            each["product"],
            each["obs_id"],
            each["gate"],
            each["version"],
            short_time(each["since"]),
            each["detail"],
        ]
        for each in found
    ]
    columns = ["product", "observation", "asked", "version", "since", "detail"]
    print_table("To approve", columns, rows)


def approve(  # noqa: PLR0913  each is an option
    target: Target = None,
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    product: ByProduct = None,
    obs_id: ByObsId = None,
    version: Version = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why; kept, and told by batuta why.")
    ] = None,
    *,
    operator: Operator = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Approve what waits, or adopt a late result: what was waited for begins."""
    filters = _filters(product, obs_id)
    with conductor_at(conductor_url, operator) as conductor:
        items = _items(conductor, target, filters, version, "approve", yes=yes)
        answers = conductor.answer("approve", items, reason)
    _report(answers, as_json=as_json)


def refuse(  # noqa: PLR0913  each is an option
    reason: Annotated[str, typer.Option("--reason", help="Why; kept, and told by batuta why.")],
    target: Target = None,
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    product: ByProduct = None,
    obs_id: ByObsId = None,
    version: Version = None,
    *,
    operator: Operator = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Refuse what waits, with a reason: it is not made, or nothing is made from it."""
    filters = _filters(product, obs_id)
    with conductor_at(conductor_url, operator) as conductor:
        items = _items(conductor, target, filters, version, "refuse", yes=yes)
        answers = conductor.answer("refuse", items, reason)
    _report(answers, as_json=as_json)


def _filters(product: str | None, obs_id: str | None) -> dict[str, str]:
    given = {"product": product, "obs_id": obs_id}
    return {name: value for name, value in given.items() if value is not None}


def _items(
    conductor: "ConductorClient",
    target: list[str] | None,
    filters: dict[str, str],
    version: str | None,
    what: str,
    *,
    yes: bool,
) -> list[dict[str, Any]]:
    """Return what is answered about, each with the version that was looked at."""
    words = target or []
    if len(words) not in {0, 2} or bool(words) == bool(filters) or (filters and version):
        given = [*words, *(f"--{name.replace('_', '-')}" for name in filters)]
        given += ["--version"] if version else []
        accepted = "accepted: PRODUCT OBS_ID, with or without --version, or --product, --obs-id"
        raise ConfigurationError(f"{' '.join(given) or 'nothing'} given ({accepted})")
    if words:
        return [{"product": words[0], "obs_id": words[1], "version": version}]
    found = list(conductor.approvals(**filters))
    if not found:
        shown = ", ".join(f"{name} {value}" for name, value in filters.items())
        raise BatutaError(f"{shown}: nothing waits for approval")
    _confirm(what, found, yes=yes)
    keys = ("product", "obs_id", "version")
    return [{key: each[key] for key in keys} for each in found]


def _confirm(what: str, found: Sequence[dict[str, Any]], *, yes: bool) -> None:
    if yes:
        return
    count = format_count(len(found), "approval")
    for each in found[:MAX_SHOWN]:
        echo(f"  {_subject(each)}")
    if len(found) > MAX_SHOWN:
        echo(f"  and {len(found) - MAX_SHOWN:,} more")
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{count} selected: give --yes to {what} them all")
    typer.confirm(f"{what} {count}?", abort=True)


def _subject(approval: dict[str, Any]) -> str:
    return f"{approval['product']} of {approval['obs_id']}, version {approval['version']}"


def _report(answers: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(answers)
    problems = []
    for each in answers:
        if each["problem"] is not None:
            problems.append(BatutaError(each["problem"]))
        elif not as_json:
            approval = each["approval"]
            echo(f"{_subject(approval)}: {approval['state']} by {approval['by']}")
    if problems:
        raise BaseExceptionGroup("some were not answered", problems)
