"""REST routes that act on many processings at once: an answer for each, whatever the others do."""

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from batuta.conductor.database.views.observations import ConductorProcessing
from batuta.conductor.decisions.commands import Urgency
from batuta.messaging.events import Name
from batuta.service.operator_requests import ByOperator
from batuta.service.operators import Operator
from batuta.service.problems import ProblemError
from batuta.service.routing import ServiceRouter
from batuta.work_classes import WorkClass

MAX_ORDERS: Final = 1000
MAX_PRIORITY: Final = 1_000_000

T = TypeVar("T")


Reason = Annotated[
    str | None,
    Field(min_length=1, max_length=400, pattern=r"^[^\x00-\x1f\x7f]+$", description="Why."),
]
"""Why an operator orders something; kept with the record."""


class Order(BaseModel):
    """A product that an operator wants made; `class` is that of what follows from it too."""

    model_config = ConfigDict(extra="forbid")

    product: Name
    obs_id: Name
    work_class: WorkClass | None = Field(None, alias="class")


class Orders(BaseModel):
    """Products that an operator wants made."""

    model_config = ConfigDict(extra="forbid")

    items: Annotated[list[Order], Field(min_length=1, max_length=MAX_ORDERS)]


class Selection(BaseModel):
    """Processings, by id."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[str], Field(min_length=1, max_length=MAX_ORDERS)]
    reason: Reason = None


class UrgencyBody(BaseModel):
    """How urgent something is to be: its class, that of what follows from it too; its priority."""

    model_config = ConfigDict(extra="forbid")

    work_class: WorkClass | None = Field(None, alias="class")
    priority: Annotated[int, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] | None = None
    reason: Reason = None

    def urgency(self) -> Urgency:
        """Return it as decisions see it."""
        return Urgency(work_class=self.work_class, priority=self.priority)

    def check_given(self) -> None:
        """Refuse nothing.

        Raises
        ------
        ProblemError
            If neither is given.
        """
        if not self.urgency().given:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "nothing to change given (accepted: class, priority)",
            )


class UrgencyOfSome(UrgencyBody):
    """Processings, by id, and how urgent they are to be."""

    ids: Annotated[list[str], Field(min_length=1, max_length=MAX_ORDERS)]


class Answer(BaseModel):
    """What became of one of many: its processing, or what is wrong."""

    processing: ConductorProcessing | None = None
    problem: str | None = None


class Answers(BaseModel):
    """In the order of the request."""

    items: list[Answer]


def bulk_router(
    make: Callable[[Order, Operator], Awaitable[ConductorProcessing]],
    retry: Callable[[str, str | None, Operator], Awaitable[ConductorProcessing]],
    cancel: Callable[[str, str | None, Operator], Awaitable[ConductorProcessing]],
    reprioritize: Callable[[str, UrgencyBody, Operator], Awaitable[ConductorProcessing]],
) -> ServiceRouter:
    """Return the routes; the functions do one each, or raise `ProblemError`."""
    router = ServiceRouter(prefix="/processings", tags=["processings"])

    @router.post("/make")
    async def make_many(orders: Orders, by: ByOperator) -> Answers:
        """Request products, whether or not they were made before."""
        return await _each(lambda each: make(each, by), orders.items)

    @router.post("/retry")
    async def retry_many(selection: Selection, by: ByOperator) -> Answers:
        """Retry failed or cancelled processings, with all their attempts again."""
        return await _each(lambda each: retry(each, selection.reason, by), selection.ids)

    @router.post("/cancel")
    async def cancel_many(selection: Selection, by: ByOperator) -> Answers:
        """Stop processings that have not ended; an ended one stays as it is."""
        return await _each(lambda each: cancel(each, selection.reason, by), selection.ids)

    @router.post("/reprioritize")
    async def reprioritize_many(body: UrgencyOfSome, by: ByOperator) -> Answers:
        """Change the class or the priority of processings that are to be made."""
        body.check_given()
        return await _each(lambda each: reprioritize(each, body, by), body.ids)

    return router


async def _each(work: Callable[[T], Awaitable[ConductorProcessing]], items: Sequence[T]) -> Answers:
    answers = []
    for item in items:
        try:
            answers.append(Answer(processing=await work(item)))
        except ProblemError as exc:
            answers.append(Answer(problem=str(exc)))
    return Answers(items=answers)
