"""REST routes of dead letters: listed by their number, shown, sent again."""

import asyncio
import base64
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field

from batuta.conductor.database.views.event_views import EventView, EventViews
from batuta.conductor.dispatch.dispatcher import Dispatcher
from batuta.errors import printable
from batuta.formatting import format_numbers
from batuta.messaging import MessagingError, subjects
from batuta.messaging.dead_letters import DeadLetter, DeadLetters
from batuta.service.instants import Instant
from batuta.service.operator_requests import ByOperator
from batuta.service.pagination import Page
from batuta.service.problems import ProblemError, problem_responses
from batuta.service.routing import ServiceRouter

MAX_ITEMS: Final = 1000
"""In one page, and looked at for one."""
MAX_RESENT: Final = 1000
"""In one request."""
EXCERPT_LENGTH: Final = 200
OUTCOME_WAIT_S: Final = 10.0
"""How long what becomes of the letters sent again is waited for, in seconds."""
OUTCOME_POLL_S: Final = 0.05

Sequence = Annotated[int, Field(ge=1, lt=2**63)]


class DeadLetterView(BaseModel):
    """A dead letter in brief: its number, whence, why, and how it begins.

    `origin` is the number that it had in its stream; `whole` whether it can be sent again.
    """

    sequence: int
    stored: datetime
    subject: str
    origin: int | None
    reason: str
    size: int
    whole: bool
    excerpt: str


class DeadLetterDetail(DeadLetterView):
    """A dead letter with all that was stored of it: as `text`, or as `base64` if it is none."""

    text: str | None = None
    base64: str | None = None


class DeadLetterPage(Page[DeadLetterView]):
    """A page of dead letters; `total` counts all that there are."""

    total: int


class Resend(BaseModel):
    """Dead letters to send again.

    `confirmation` names the decision to do so: what it has sent already it does not send twice.
    """

    model_config = ConfigDict(extra="forbid")

    sequences: Annotated[list[Sequence], Field(min_length=1, max_length=MAX_RESENT)]
    confirmation: uuid.UUID = Field(default_factory=uuid.uuid4)


class Resent(BaseModel):
    """What became of one: where it was sent and the number that it got there, or what is wrong.

    `event` is how it ended; None if it is activity, or is not decided yet.
    """

    dead: int
    subject: str | None = None
    sequence: int | None = None
    event: EventView | None = None
    problem: str | None = None


class ResentAll(BaseModel):
    """In the order of the request."""

    items: list[Resent]


def dead_router(letters: DeadLetters, events: EventViews, dispatcher: Dispatcher) -> ServiceRouter:
    """Return the routes."""
    router = ServiceRouter(
        prefix="/dead",
        tags=["dead letters"],
        responses=problem_responses(HTTPStatus.SERVICE_UNAVAILABLE),
    )

    @router.get("")
    async def dead(
        subject: Annotated[str | None, Query(max_length=200)] = None,
        reason: Annotated[
            str | None, Query(max_length=200, description="Text in it; case does not count.")
        ] = None,
        since: Instant | None = None,
        until: Instant | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_ITEMS)] = 100,
        cursor: Annotated[int, Query(ge=0, lt=2**63, description="`next` of the page before")] = 0,
    ) -> DeadLetterPage:
        """Messages that were put aside, the oldest first."""
        async with _available():
            total = await letters.count()
            found = await letters.after(cursor, MAX_ITEMS if subject or reason else limit)
        wanted = [
            each
            for each in found
            if (subject is None or each.subject == subject)
            and (reason is None or reason.casefold() in each.reason.casefold())
            and (since is None or each.stored >= since)
            and (until is None or each.stored < until)
        ][:limit]
        complete = len(wanted) == limit
        last = wanted[-1] if complete else found[-1] if found else None
        ended = last is None or (not complete and until is not None and last.stored >= until)
        return DeadLetterPage(
            items=[DeadLetterView(**_brief(each)) for each in wanted],
            next=None if ended or last is None else str(last.sequence),
            total=total,
        )

    @router.get("/{sequence}", responses=problem_responses(HTTPStatus.NOT_FOUND))
    async def letter(sequence: Annotated[int, Path(ge=1, lt=2**63)]) -> DeadLetterDetail:
        """One of them, as it was published."""
        async with _available():
            found = await letters.get(sequence)
        if found is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, _not_found(sequence))
        return DeadLetterDetail(**_brief(found), **_content(found.payload))

    @router.post("/resend")
    async def resend(order: Resend, by: ByOperator) -> ResentAll:
        """Send some again, each to the subject that it came from, and tell what became of them."""
        began = time.time()
        numbers = list(dict.fromkeys(order.sequences))
        # Recorded, then done.
        commands = dispatcher.ledger.commands
        about = {"letters": format_numbers(numbers)}
        recorded = await dispatcher.write(commands.begin, by, "dead resend", about)
        answers = [await _resend(letters, number, str(order.confirmation)) for number in numbers]
        sent = sum(each.problem is None for each in answers)
        await dispatcher.write(commands.add, recorded, sent)
        await _add_outcomes(events, answers, began)
        return ResentAll(items=answers)

    return router


async def _resend(letters: DeadLetters, number: int, confirmation: str) -> Resent:
    try:
        letter = await letters.get(number)
        if letter is None:
            return Resent(dead=number, problem=_not_found(number))
        sequence = await letters.resend(letter, confirmation)
    except MessagingError as exc:
        return Resent(dead=number, problem=str(exc))
    return Resent(dead=number, subject=letter.subject, sequence=sequence)


async def _add_outcomes(events: EventViews, answers: list[Resent], began: float) -> None:
    """Add what became of those sent to ``data.*``, as far as it is recorded in time."""
    # The clock of NATS may be behind: what has this number since then is the message.
    since = began - CLOCK_TOLERANCE_S
    waiting = [
        each
        for each in answers
        if each.sequence is not None and (each.subject or "").startswith(_DATA)
    ]
    deadline = time.monotonic() + OUTCOME_WAIT_S
    while waiting and time.monotonic() < deadline:
        for each in waiting:
            each.event = await asyncio.to_thread(
                events.outcome_of_message, each.sequence or 0, since
            )
        waiting = [each for each in waiting if each.event is None]
        if waiting:
            await asyncio.sleep(OUTCOME_POLL_S)


@asynccontextmanager
async def _available() -> AsyncIterator[None]:
    try:
        yield
    except MessagingError as exc:
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, str(exc), {"Retry-After": "5"}) from exc


def _brief(letter: DeadLetter) -> dict[str, Any]:
    text = letter.payload[: 4 * EXCERPT_LENGTH].decode(errors="replace")
    return {
        "sequence": letter.sequence,
        "stored": letter.stored,
        "subject": letter.subject,
        "origin": letter.origin,
        "reason": letter.reason,
        "size": letter.full_size,
        "whole": letter.whole,
        "excerpt": printable(" ".join(text.split()))[:EXCERPT_LENGTH],
    }


def _content(payload: bytes) -> dict[str, str]:
    try:
        return {"text": payload.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(payload).decode()}


def _not_found(sequence: int) -> str:
    return f"dead letter {sequence}: not found (never there, sent again, or beyond what is kept)"


CLOCK_TOLERANCE_S: Final = 60.0
_DATA: Final = subjects.data_subject("")
