"""Which processings a command is about: by id, by product and observation, or by filters."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from batuta.cli.output import echo
from batuta.errors import BatutaError, ConfigurationError
from batuta.formatting import format_count

if TYPE_CHECKING:
    from batuta.cli.conductor_client import ConductorClient

MAX_SHOWN: Final = 20
LAST_ATTEMPT_FAILED: Final = ("failed", "retrying")

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
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What the command line says.

    Attributes
    ----------
    target : sequence of str
        An id, or a product and an observation; empty with filters.
    filters : mapping
        As ``GET /processings`` takes them.
    failed : bool
        Whether only those whose last attempt has failed are meant.
    """

    target: Sequence[str]
    filters: Mapping[str, str]
    failed: bool

    @classmethod
    def of(
        cls, target: list[str] | None, *, failed: bool, more: bool = False, **filters: str | None
    ) -> "Selection":
        """Check that it selects something; `more` tells whether there are filters besides.

        Raises
        ------
        ConfigurationError
            If it has neither a target nor a filter, or both.
        """
        given = {name: value for name, value in filters.items() if value is not None}
        words = target or []
        accepted = "accepted: ID, or PRODUCT OBS_ID, or --failed, --provider, --product, --obs-id"
        if words and (given or failed or more):
            raise ConfigurationError(f"{' '.join(words)} and filters given ({accepted})")
        if len(words) > 2 or not (words or given or failed or more):
            raise ConfigurationError(f"{format_count(len(words), 'argument')} given ({accepted})")
        return cls(target=words, filters=given, failed=failed)

    def processings(
        self, conductor: "ConductorClient", states: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """Return the processings that it selects, of these states; of any, if none is given.

        A product of an observation is its newest processing.

        Raises
        ------
        BatutaError
            If there is none.
        """
        if len(self.target) == 1:
            return [conductor.processing(self.target[0])]
        if self.target:
            return [newest_processing(conductor, *self.target)]
        asked = LAST_ATTEMPT_FAILED if self.failed else states
        wanted = [{"state": state} for state in asked] or [{}]
        found = [
            each for state in wanted for each in conductor.processings(**self.filters, **state)
        ]
        if not found:
            shown = "".join(f"{name} {value}, " for name, value in self.filters.items())
            what = f" that is {_listed(asked)}" if asked else ""
            raise BatutaError(f"{shown.removesuffix(', ') or 'all'}: no processing{what}")
        return found


def _listed(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def newest_processing(conductor: "ConductorClient", product: str, obs_id: str) -> dict[str, Any]:
    """Return the newest processing of a product of an observation.

    Raises
    ------
    BatutaError
        If there is none; says why.
    """
    why = conductor.why(product, obs_id)
    if why["processings"]:
        newest: dict[str, Any] = why["processings"][-1]
        return newest
    raise BatutaError(f"{product} of {obs_id}: no processing: {why['answer']}")


def confirm(what: str, processings: Sequence[Mapping[str, Any]], *, yes: bool) -> None:
    """Ask whether to do something to several processings; one alone needs no question.

    Raises
    ------
    ConfigurationError
        If there is nobody to ask.
    """
    if len(processings) == 1 or yes:
        return
    count = format_count(len(processings), "processing")
    for each in processings[:MAX_SHOWN]:
        echo(f"  {each['product']} of {each['obs_id']}: {each['state']} ({each['id']})")
    if len(processings) > MAX_SHOWN:
        echo(f"  and {len(processings) - MAX_SHOWN:,} more")
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{count} selected: give --yes to {what} them all")
    typer.confirm(f"{what} {count}?", abort=True)
