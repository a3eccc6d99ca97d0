"""REST routes of what waits for a person's approval, and of the answers."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from batuta.approval_gates import Gate
from batuta.conductor.database.approvals.approval_answers import Approvals
from batuta.conductor.database.views.approval_views import ApprovalView, ApprovalViews, approval_of
from batuta.conductor.decisions.approvals import Verdict
from batuta.conductor.dispatch.dispatcher import Dispatcher
from batuta.conductor.routes.bulk_routes import MAX_ORDERS, Reason
from batuta.conductor.routes.common import Pattern, invalid_cursor
from batuta.messaging.events import Name
from batuta.service.operator_requests import ByOperator
from batuta.service.operators import Operator
from batuta.service.pagination import Page
from batuta.service.problems import ProblemError
from batuta.service.routing import ServiceRouter

MAX_ITEMS: Final = 1000


class Asked(BaseModel):
    """What a person answers about; `version` is what was looked at, if there may be another."""

    model_config = ConfigDict(extra="forbid")

    product: Name
    obs_id: Name
    version: Annotated[str, Field(min_length=1, max_length=20_000)] | None = None


class Approved(BaseModel):
    """What a person approves, and why if that is to be kept."""

    model_config = ConfigDict(extra="forbid")

    items: Annotated[list[Asked], Field(min_length=1, max_length=MAX_ORDERS)]
    reason: Reason = None


class Refused(BaseModel):
    """What a person refuses, and why."""

    model_config = ConfigDict(extra="forbid")

    items: Annotated[list[Asked], Field(min_length=1, max_length=MAX_ORDERS)]
    reason: Reason

    def given_reason(self) -> str:
        """Return the reason.

        Raises
        ------
        ProblemError
            If it is null.
        """
        if self.reason is None:
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "reason: null (accepted: a text)")
        return self.reason


class ApprovalAnswer(BaseModel):
    """What became of one answer: what it is about as it is now, or what is wrong."""

    approval: ApprovalView | None = None
    problem: str | None = None


class ApprovalAnswers(BaseModel):
    """In the order of the request."""

    items: list[ApprovalAnswer]


def approval_router(views: ApprovalViews, dispatcher: Dispatcher) -> ServiceRouter:
    """Return the routes."""
    router = ServiceRouter(prefix="/approvals", tags=["approvals"])

    @router.get("")
    def approvals(
        product: Pattern = None,
        obs_id: Pattern = None,
        gate: Gate | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_ITEMS)] = 100,
        cursor: str | None = None,
    ) -> Page[ApprovalView]:
        """What waits for a person's approval: what is to be made, then versions of products."""
        try:
            return views.page({"product": product, "obs_id": obs_id}, limit, cursor, gate)
        except ValueError as exc:
            raise invalid_cursor(cursor) from exc

    @router.post("/approve")
    async def approve(asked: Approved, by: ByOperator) -> ApprovalAnswers:
        """Approve what waits, or adopt a late result: what was waited for begins."""
        return await _answer(asked.items, Verdict.APPROVED, asked.reason, by)

    @router.post("/refuse")
    async def refuse(asked: Refused, by: ByOperator) -> ApprovalAnswers:
        """Refuse what waits: it is not made, or nothing is made from it."""
        return await _answer(asked.items, Verdict.REFUSED, asked.given_reason(), by)

    async def _answer(
        items: Sequence[Asked], verdict: Verdict, reason: str | None, by: Operator
    ) -> ApprovalAnswers:
        approvals: Approvals = dispatcher.ledger.approvals
        answers = []
        for item in items:
            answered = await dispatcher.write(
                approvals.answer, item.product, item.obs_id, item.version, verdict, reason, by
            )
            if answered.question is None:
                answers.append(ApprovalAnswer(problem=answered.problem))
                continue
            dispatcher.report(answered.question)
            answers.append(ApprovalAnswer(approval=approval_of(answered.question)))
        dispatcher.wake()
        return ApprovalAnswers(items=answers)

    return router
