"""The options by which commands select work, and say how they go about it: each declared once.

A class is a group of options, which `batuta.cli.option_groups.grouped` gives to a command.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batuta.cli.clients import conductor_at
from batuta.cli.output import CONDUCTOR_URL, AsJson, ConductorUrl, Operator
from batuta.cli.requests.times import read_moment
from batuta.errors import ConfigurationError
from batuta.work_classes import WorkClass

if TYPE_CHECKING:
    from batuta.cli.conductor_client import ConductorClient
    from batuta.stages import Stage

# ---------------------------------------------------------------------- what is selected

Target = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ID | PRODUCT OBS_ID]", help="A processing, or by its product."),
]
Failed = Annotated[bool, typer.Option("--failed", help="Those whose last attempt has failed.")]
Stale = Annotated[bool, typer.Option("--stale", help="Those whose product is stale.")]
ByProvider = Annotated[
    str | None, typer.Option("--provider", help="Of this provider; * is any text.")
]
ByProduct = Annotated[str | None, typer.Option("--product", help="Of this product; * is any text.")]
ByObsId = Annotated[
    str | None, typer.Option("--obs-id", help="Of this observation; 'sb25*' is all of 2025.")
]
ByState = Annotated[
    list[str] | None, typer.Option("--state", help="In this state; may be repeated.")
]
ByClass = Annotated[WorkClass | None, typer.Option("--class", help="Of this class of work.")]
ByStage = Annotated[
    str | None, typer.Option("--stage", help="Of this stage: preliminary, final, or a number.")
]
ByCampaign = Annotated[
    int | None, typer.Option("--campaign", min=1, help="Of this campaign, by its number.")
]
ClaimedSince = Annotated[
    str | None,
    typer.Option("--since", help="Claimed from this time on: 2h (ago), or 2026-11-29T08:00."),
]
ClaimedUntil = Annotated[str | None, typer.Option("--until", help="Claimed before this time.")]

# ---------------------------------------------------------------------- how it is done

Reason = Annotated[
    str | None, typer.Option("--reason", help="Why; kept with the record, and told by batuta why.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only show how many are selected, and which.")
]


@dataclass(frozen=True, kw_only=True)
class ByName:
    """Work by the names of what it is."""

    provider: ByProvider = None
    product: ByProduct = None
    obs_id: ByObsId = None

    @property
    def given(self) -> dict[str, Any]:
        """The filters that are given, as REST takes them."""
        return without_none(
            {"provider": self.provider, "product": self.product, "obs_id": self.obs_id}
        )


@dataclass(frozen=True, kw_only=True)
class Filters(ByName):
    """Processings by what is recorded of them."""

    state: ByState = None
    work_class: ByClass = None
    stage: ByStage = None
    campaign: ByCampaign = None
    since: ClaimedSince = None
    until: ClaimedUntil = None

    @property
    def given(self) -> dict[str, Any]:
        """The filters that are given, as REST takes them; `state` is a list."""
        more = {
            "state": self.state or None,
            "class": None if self.work_class is None else self.work_class.value,
            "stage": read_stage(self.stage),
            "campaign": self.campaign,
            "since": read_moment("--since", self.since),
            "until": read_moment("--until", self.until),
        }
        return super().given | without_none(more)


@dataclass(frozen=True, kw_only=True)
class Command:
    """Who gives a command to which conductor, and how it is answered."""

    conductor_url: ConductorUrl = CONDUCTOR_URL
    operator: Operator = None
    as_json: AsJson = False

    def conductor(self) -> "ConductorClient":
        """Return a client of the conductor, to be used in a ``with`` block."""
        return conductor_at(self.conductor_url, self.operator)


@dataclass(frozen=True, kw_only=True)
class AskingCommand(Command):
    """A command that asks first where it is about many."""

    yes: Yes = False


@dataclass(frozen=True, kw_only=True)
class SetCommand(AskingCommand):
    """A command that may be carried out for a set, and previewed."""

    reason: Reason = None
    dry_run: DryRun = False


def read_stage(text: str | None) -> "Stage | None":
    """Return the stage that an option names.

    Raises
    ------
    ConfigurationError
        If it names none.
    """
    from batuta.stages import stage_from_text  # noqa: PLC0415  pydantic takes longer than --help

    try:
        return None if text is None else stage_from_text(text)
    except ValueError as exc:
        raise ConfigurationError(f"--stage: {exc}") from exc


def without_none(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values that are given."""
    return {name: value for name, value in values.items() if value is not None}
