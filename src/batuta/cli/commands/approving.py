"""`batuta approvals`, `approve` and `refuse`: what waits for a person."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batuta.approval_gates import Gate
from batuta.cli.clients import conductor_at
from batuta.cli.command_list import PRODUCTS, WATCHING
from batuta.cli.commands.events import short_time
from batuta.cli.option_groups import grouped
from batuta.cli.output import (
    CONDUCTOR_URL,
    AsJson,
    ConductorUrl,
    echo,
    print_json,
    print_table,
)
from batuta.cli.requests.confirmation import confirm
from batuta.cli.requests.filter_options import (
    AskingCommand,
    ByObsId,
    ByProduct,
    Reason,
    without_none,
)
from batuta.errors import BatutaError, ConfigurationError
from batuta.formatting import format_count

if TYPE_CHECKING:
    from batuta.cli.conductor_client import ConductorClient


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is answered about: one, or all that filters select."""

    target: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PRODUCT OBS_ID]", help="What waits, by its product."),
    ] = None
    product: ByProduct = None
    obs_id: ByObsId = None
    version: Annotated[
        str | None,
        typer.Option(
            "--version",
            help="What was looked at, as batuta approvals shows it; refused if it has changed.",
        ),
    ] = None


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("approvals", rich_help_panel=WATCHING)(approvals)
    app.command("approve", rich_help_panel=PRODUCTS)(grouped(approve))
    app.command("refuse", rich_help_panel=PRODUCTS)(grouped(refuse))


def approvals(
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    product: ByProduct = None,
    obs_id: ByObsId = None,
    gate: Annotated[
        Gate | None, typer.Option(help="Only what is asked before or after it is made, or late.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many at most, the oldest.")] = 100,
    *,
    as_json: AsJson = False,
) -> None:
    """List what waits for a person's approval, the oldest first."""
    with conductor_at(conductor_url) as conductor:
        filters = _filters(product, obs_id) | ({} if gate is None else {"gate": gate.value})
        found = list(islice(conductor.approvals(**filters), limit))
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


def approve(asked: Asked, given: AskingCommand, reason: Reason = None) -> None:
    """Approve what waits, or adopt a late result: what was waited for begins."""
    _answer("approve", asked, given, reason)


def refuse(
    reason: Annotated[str, typer.Option("--reason", help="Why; kept, and told by batuta why.")],
    asked: Asked,
    given: AskingCommand,
) -> None:
    """Refuse what waits, with a reason: it is not made, or nothing is made from it."""
    _answer("refuse", asked, given, reason)


def _answer(verdict: str, asked: Asked, given: AskingCommand, reason: str | None) -> None:
    with given.conductor() as conductor:
        items = _items(conductor, asked, verdict, yes=given.yes)
        answers = conductor.answer(verdict, items, reason)
    _report(answers, as_json=given.as_json)


def _filters(product: str | None, obs_id: str | None) -> dict[str, str]:
    return without_none({"product": product, "obs_id": obs_id})


def _items(
    conductor: "ConductorClient", asked: Asked, verdict: str, *, yes: bool
) -> list[dict[str, Any]]:
    """Return what is answered about, each with the version that was looked at."""
    words, version = asked.target or [], asked.version
    filters = _filters(asked.product, asked.obs_id)
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
    if not yes:
        count = format_count(len(found), "approval")
        confirm(f"{verdict} {{}}", count, map(_subject, found), len(found))
    keys = ("product", "obs_id", "version")
    return [{key: each[key] for key in keys} for each in found]


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
