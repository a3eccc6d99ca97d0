"""`batuta dead`: messages that were put aside; list them, show one, send them again."""

import uuid
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batuta.cli.clients import conductor_at
from batuta.cli.commands.events import Since, Until, short_time, what_followed
from batuta.cli.option_groups import grouped
from batuta.cli.output import CONDUCTOR_URL, AsJson, ConductorUrl, echo, print_json, print_table
from batuta.cli.requests.confirmation import confirm
from batuta.cli.requests.filter_options import AskingCommand, without_none
from batuta.cli.requests.times import read_moment
from batuta.errors import BatutaError, ConfigurationError
from batuta.formatting import format_count

if TYPE_CHECKING:
    from batuta.cli.conductor_client import ConductorClient

dead = typer.Typer(
    help="List, show and send again messages that could not be understood, or were refused.",
    invoke_without_command=True,
)


def register(app: typer.Typer) -> None:
    """Add the group to `app`."""
    app.add_typer(dead, name="dead", rich_help_panel="Watching")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which dead letters are meant."""

    subject: Annotated[
        str | None, typer.Option("--subject", help="Only from this subject, such as data.vhf.")
    ] = None
    reason: Annotated[
        str | None, typer.Option("--reason", help="Only with this text in their reason.")
    ] = None
    since: Since = None
    until: Until = None

    @property
    def given(self) -> dict[str, str]:
        """The filters that are given, as REST takes them."""
        return without_none(
            {
                "subject": self.subject,
                "reason": self.reason,
                "since": read_moment("--since", self.since),
                "until": read_moment("--until", self.until),
            }
        )


@dead.callback()
@grouped
def list_all(
    context: typer.Context,
    chosen: Chosen,
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    limit: Annotated[int, typer.Option(min=1, help="Letters at most, the oldest.")] = 100,
    *,
    as_json: AsJson = False,
) -> None:
    """List messages that were put aside, the oldest first."""
    if context.invoked_subcommand is not None:
        return
    filters = chosen.given
    with conductor_at(conductor_url) as conductor:
        found = list(islice(conductor.dead_letters(**filters), limit))
    if as_json:
        print_json(found)
        return
    rows = [
        [each["sequence"], short_time(each["stored"]), each["subject"], each["reason"]]
        for each in found
    ]
    print_table("Dead letters", ["number", "put aside", "subject", "reason"], rows)


@dead.command()
def show(
    number: Annotated[int, typer.Argument(metavar="N", min=1, help="Its number.")],
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    *,
    as_json: AsJson = False,
) -> None:
    """Show a message as it was published, and why it was put aside."""
    with conductor_at(conductor_url) as conductor:
        found = conductor.dead_letter(number)
    if as_json:
        print_json(found)
        return
    where = f"{found['subject']}#{found['origin']}" if found["subject"] else "an unknown subject"
    part = "" if found["whole"] else ", of which only the start was stored"
    echo(f"{number}: from {where}, put aside at {found['stored']}, {found['size']} bytes{part}")
    echo(found["reason"])
    echo(found["text"] if found["text"] is not None else f"base64: {found['base64']}")


@dead.command()
@grouped
def resend(
    chosen: Chosen,
    given: AskingCommand,
    numbers: Annotated[
        list[int] | None, typer.Argument(metavar="[N...]", min=1, help="Their numbers.")
    ] = None,
    *,
    all_: Annotated[bool, typer.Option("--all", help="All that the filters select.")] = False,
) -> None:
    """Send messages again, each to the subject that it came from, and tell what became of them."""
    filters = chosen.given
    if bool(numbers) == all_ or (numbers and filters):
        raise ConfigurationError(
            f"{format_count(len(numbers or []), 'number')}"
            f"{', --all' if all_ else ''}{', filters' if filters else ''} given "
            "(accepted: numbers, or --all with or without --subject, --reason, --since, --until)"
        )
    with given.conductor() as conductor:
        sent = list(dict.fromkeys(numbers or [])) or _select(conductor, filters, yes=given.yes)
        answers = conductor.resend(sent, str(uuid.uuid4()))
    if given.as_json:
        print_json(answers)
    problems = []
    for each in answers:
        if each["problem"] is not None:
            problems.append(BatutaError(each["problem"]))
        elif not given.as_json:
            echo(_told(each))
    if problems:
        raise BaseExceptionGroup("some were not sent", problems)


def _select(conductor: "ConductorClient", filters: dict[str, str], *, yes: bool) -> list[int]:
    """Return the numbers of all that the filters select, confirmed: listed once, sent as listed."""
    found = list(conductor.dead_letters(**filters))
    if not found:
        raise BatutaError("no dead letter selected")
    count = format_count(len(found), "dead letter")
    if not yes:
        lines = (f"{each['sequence']}: {each['subject']}: {each['reason']}" for each in found)
        confirm("send {} again", count, lines, len(found))
    return [each["sequence"] for each in found]


def _told(answer: dict[str, Any]) -> str:
    sent = f"{answer['dead']}: sent to {answer['subject']} as #{answer['sequence']}"
    event = answer["event"]
    if event is not None:
        return f"{sent}: {event['outcome']}: {what_followed(event)}"
    if answer["subject"].startswith("data."):
        return f"{sent}; not decided yet: batuta events --source {answer['subject'][5:]}"
    return sent
