"""`batuta hold`, `release` and `holds`: keep work back for a while."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from batuta.cli.clients import conductor_at
from batuta.cli.command_list import PRODUCTS, WATCHING
from batuta.cli.commands.events import short_time
from batuta.cli.option_groups import grouped
from batuta.cli.output import CONDUCTOR_URL, AsJson, ConductorUrl, echo, print_json, print_table
from batuta.cli.requests.filter_options import ByCampaign, ByClass, Command, Reason, without_none
from batuta.errors import BatutaError, ConfigurationError
from batuta.formatting import format_count, format_seconds

if TYPE_CHECKING:
    from batuta.cli.conductor_client import ConductorClient

ACCEPTED: Final = "accepted: PROVIDER, --product, --obs-id, --class, --campaign, or --all"
HELD_BY: Final = ("provider", "product", "obs_id", "class", "campaign")


@dataclass(frozen=True, kw_only=True)
class HeldWork:
    """What is held, or released: what has all that is given."""

    provider: Annotated[
        str | None, typer.Argument(metavar="[PROVIDER]", help="The provider, as in the graph.")
    ] = None
    product: Annotated[str | None, typer.Option("--product", help="Of this product.")] = None
    obs_id: Annotated[str | None, typer.Option("--obs-id", help="Of this observation.")] = None
    work_class: ByClass = None
    campaign: ByCampaign = None
    every: Annotated[bool, typer.Option("--all", help="All work.")] = False

    @property
    def given(self) -> dict[str, Any]:
        """What is given, by its names in REST."""
        return without_none(
            {
                "provider": self.provider,
                "product": self.product,
                "obs_id": self.obs_id,
                "class": None if self.work_class is None else self.work_class.value,
                "campaign": self.campaign,
            }
        )

    def words(self) -> str:
        """Say it for people."""
        return ", ".join(f"{name} {value}" for name, value in self.given.items()) or "--all"

    def check(self, accepted: str = ACCEPTED) -> None:
        """Refuse nothing, and all together with some.

        Raises
        ------
        ConfigurationError
            Says what is accepted.
        """
        if bool(self.given) == self.every:
            given = f"{self.words()} and --all" if self.every else "nothing"
            raise ConfigurationError(f"{given} given ({accepted})")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for name, command in (("hold", hold), ("release", release)):
        app.command(name, rich_help_panel=PRODUCTS)(grouped(command))
    app.command("holds", rich_help_panel=WATCHING)(holds)


def hold(
    work: HeldWork,
    given: Command,
    begins: Annotated[
        str | None,
        typer.Option("--from", help="From this time on: 2026-11-29T18:00Z. Without it, now."),
    ] = None,
    reason: Reason = None,
) -> None:
    """Request nothing more of a provider, a product or other work until it is released.

    What has all that is given is held, what runs continues, and what arrives meanwhile is kept.
    """
    work.check()
    order = without_none({**work.given, "from": _instant("--from", begins), "reason": reason})
    with given.conductor() as conductor:
        placed = conductor.place_hold(order)
        _print_held(conductor, placed, as_json=given.as_json)


def release(
    work: HeldWork,
    given: Command,
    number: Annotated[
        int | None, typer.Option("--hold", min=1, help="The hold, by its number in batuta holds.")
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(help="Let the work go at this rate: 10/min (or /s, /h, /d). Else at once."),
    ] = None,
    reason: Reason = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would start, and release nothing.")
    ] = False,
) -> None:
    """End a hold, at once or at a rate: what no other hold keeps back is requested.

    Given a rate again, one that is being released goes on at that.
    """
    if number is None or work.every or work.given:
        if number is not None:
            raise ConfigurationError(f"--hold and {work.words()} given (accepted: one of them)")
        work.check(accepted=f"{ACCEPTED}, or --hold")
    with given.conductor() as conductor:
        which = number if number is not None else _hold_of(conductor, work)
        if dry_run:
            _print_preview(conductor.preview_release(which), as_json=given.as_json)
        else:
            order = without_none({"rate": rate, "reason": reason})
            _print_held(conductor, conductor.release_hold(which, order), as_json=given.as_json)


def holds(conductor_url: ConductorUrl = CONDUCTOR_URL, *, as_json: AsJson = False) -> None:
    """List what is held: since when, by whom, why, and how much it is."""
    with conductor_at(conductor_url) as conductor:
        found = conductor.holds()
    if as_json:
        print_json(found)
        return
    if not found:
        echo("nothing is held")
        return
    columns = ["hold", "of", "state", "since", "for", "keeps back", "alone", "by", "reason"]
    print_table(format_count(len(found), "hold"), columns, [_row(each) for each in found])


def hold_line(held: Mapping[str, Any]) -> str:
    """Return a hold in one line: of what, since when, by whom, why, and how much it keeps back."""
    rate = f" at {held['rate']}" if held["rate"] else ""
    since = short_time(held["since"])
    keeps = f"keeps back {_kept_back(held)}"
    return (
        f"hold {held['number']} of {held['what']}, {held['state']}{rate}, since {since} "
        f"{_why(held)}, {keeps}"
    )


def _kept_back(held: Mapping[str, Any]) -> str:
    unapproved = f" ({held['unapproved']:,} unapproved)" if held["unapproved"] else ""
    return f"{held['keeps']:,}{unapproved}"


def _hold_of(conductor: "ConductorClient", work: HeldWork) -> int:
    """Return the hold of just this.

    Raises
    ------
    BatutaError
        If there is none; or several: each was placed by somebody, for a reason.
    """
    given = work.given
    all_holds = conductor.holds()
    of_just_this = [
        each for each in all_holds if all(each[name] == given.get(name) for name in HELD_BY)
    ]
    found = [each for each in of_just_this if not each["pause"]]
    if len(found) > 1:
        listed = "; ".join(f"{each['number']} {_why(each)}" for each in found)
        raise BatutaError(f"{work.words()}: {len(found)} holds (release one by --hold): {listed}")
    if of_just_this and not found:
        raise BatutaError(
            f"{work.words()}: no hold but its pause "
            f"(batuta campaign resume {work.campaign} ends it)"
        )
    if not found:
        held = "; ".join(f"hold {each['number']} of {each['what']}" for each in all_holds)
        raise BatutaError(f"{work.words()}: no hold of just that (held: {held or 'nothing'})")
    return int(found[0]["number"])


def _instant(option: str, given: str | None) -> str | None:
    if given is None:
        return None
    accepted = "accepted: a time with its zone, as 2026-11-29T18:00Z or 2026-11-29T18:00+01:00"
    try:
        moment = datetime.fromisoformat(given)
    except ValueError as exc:
        raise ConfigurationError(f"{option} {given!r:.80}: no such time ({accepted})") from exc
    if moment.tzinfo is None:
        raise ConfigurationError(f"{option} {given!r:.80}: no zone given ({accepted})")
    return moment.isoformat()


def _print_held(conductor: "ConductorClient", changed: Mapping[str, Any], *, as_json: bool) -> None:
    found = conductor.holds()
    if as_json:
        print_json({"hold": changed, "holds": found})
        return
    if changed["state"] == "scheduled":
        echo(f"hold {changed['number']}: {changed['what']} from {short_time(changed['since'])} on")
    in_force = [each for each in found if each["state"] == "in force"]
    echo(f"held now: {'; '.join(map(_what, in_force)) or 'none'}")
    for each in found:
        if each["state"] == "releasing":
            rate = f" at {each['rate']}" if each["rate"] else ""
            echo(f"being released{rate}: {_what(each)}, {each['alone']:,} still to be let go")


def _what(hold_: Mapping[str, Any]) -> str:
    only_provider = hold_["what"] == f"provider {hold_['provider']}"
    return str(hold_["provider"] if only_provider else hold_["what"])


def _why(hold_: Mapping[str, Any]) -> str:
    reason = f": {hold_['reason']}" if hold_["reason"] else ""
    return f"({hold_['by']}{reason})"


def _print_preview(preview: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(preview)
        return
    held = preview["hold"]
    echo(
        f"hold {held['number']} of {held['what']}: its release would start "
        f"{format_count(preview['starts'], 'processing')}"
    )
    if preview["remains"]:
        echo(f"other holds keep back {preview['remains']:,} more that it covers: see batuta holds")
    if preview["unapproved"]:
        echo(f"waiting for a person: {preview['unapproved']:,} more: see batuta approvals")
    for what in ("products", "providers", "classes"):
        counts = ", ".join(f"{name} {number:,}" for name, number in preview[what].items())
        if counts:
            echo(f"  {what}: {counts}")


def _row(held: Mapping[str, Any]) -> list[object]:
    since = datetime.fromisoformat(held["since"])
    age_s = (datetime.now(UTC) - since).total_seconds()
    rate = f" at {held['rate']}" if held["state"] == "releasing" and held["rate"] else ""
    return [
        held["number"],
        held["what"],
        held["state"] + rate,
        short_time(held["since"]),
        format_seconds(age_s) if age_s > 0 else f"in {format_seconds(-age_s)}",
        _kept_back(held),
        f"{held['alone']:,}",
        held["by"].removeprefix("operator "),
        held["reason"],
    ]
