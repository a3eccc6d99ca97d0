"""REST routes of campaigns."""

import asyncio
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Path, Query, Response
from pydantic import BaseModel, ConfigDict

from batuta.conductor.campaign_orders import PlanOrder, read_order
from batuta.conductor.campaign_runner import CampaignRunner
from batuta.conductor.database.campaigns.campaign_store import CampaignError
from batuta.conductor.database.views.campaign_views import (
    Campaign,
    CampaignItem,
    CampaignReport,
    CampaignViews,
)
from batuta.conductor.decisions.campaigns import CampaignOrder, CampaignState, ItemState
from batuta.conductor.routes.bulk_routes import Reason
from batuta.conductor.routes.common import invalid_cursor
from batuta.errors import ConfigurationError
from batuta.service.operator_requests import ByOperator
from batuta.service.pagination import Page
from batuta.service.problems import ProblemError, problem_responses
from batuta.service.routing import ServiceRouter

MAX_ITEMS: Final = 1000

Number = Annotated[int, Path(ge=1, lt=2**31)]
Limit = Annotated[int, Query(ge=1, le=MAX_ITEMS)]
_UNKNOWN: Final = problem_responses(HTTPStatus.NOT_FOUND)
_REFUSED: Final = _UNKNOWN | problem_responses(HTTPStatus.CONFLICT)


class CampaignCommand(BaseModel):
    """What goes with an order; `reason` is kept with the campaign."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason = None


def campaign_router(runner: CampaignRunner) -> ServiceRouter:
    """Return the routes."""
    router = ServiceRouter(prefix="/campaigns", tags=["campaigns"])

    @router.post("", status_code=HTTPStatus.CREATED)
    async def plan(order: PlanOrder, response: Response, by: ByOperator) -> Campaign:
        """Plan a campaign: what would be made, and how long that takes; nothing is changed."""
        try:
            read = await asyncio.to_thread(read_order, order, runner.graph)
        except ConfigurationError as exc:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(exc.problems), problems=exc.problems
            ) from exc
        try:
            planned = await runner.plan(read, by)
        except CampaignError as exc:
            raise ProblemError(HTTPStatus.CONFLICT, str(exc)) from exc
        response.headers["Location"] = f"/campaigns/{planned.number}"
        return planned

    _add_reading(router, runner.views)
    _add_orders(router, runner)
    return router


def _add_reading(router: ServiceRouter, views: CampaignViews) -> None:
    @router.get("")
    def campaigns(
        state: CampaignState | None = None,
        limit: Limit = 100,
        cursor: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
    ) -> Page[Campaign]:
        """Campaigns, the newest first."""
        return views.page(state, limit, cursor)

    @router.get("/{number}", responses=_UNKNOWN)
    def campaign(number: Number) -> Campaign:
        """One campaign: its plan, how far it is, and when it is expected to end."""
        return _found(views.find(number), number)

    @router.get("/{number}/items", responses=_UNKNOWN)
    def items(
        number: Number,
        state: ItemState = ItemState.FAILED,
        limit: Limit = 100,
        cursor: str | None = None,
    ) -> Page[CampaignItem]:
        """What a campaign has begun and not made, of one state, in the order of observations."""
        _found(views.find(number), number)
        try:
            return views.items(number, state, limit, cursor)
        except ValueError as exc:
            raise invalid_cursor(cursor) from exc

    @router.get("/{number}/report", responses=_REFUSED)
    def report(number: Number) -> CampaignReport:
        """What an ended campaign has made, product by product, and why not all."""
        try:
            found = views.report(number)
        except KeyError:
            raise _unknown(number) from None
        if isinstance(found, CampaignState):
            raise ProblemError(
                HTTPStatus.CONFLICT,
                f"campaign {number} is {found}: it has a report once it has run to its end",
            )
        return found


def _add_orders(router: ServiceRouter, runner: CampaignRunner) -> None:
    def add_order(order: CampaignOrder, what: str) -> None:
        async def command(
            number: Number, by: ByOperator, command: CampaignCommand | None = None
        ) -> Campaign:
            reason = command.reason if command is not None else None
            try:
                return await runner.order(number, order, reason, by)
            except KeyError:
                raise _unknown(number) from None
            except CampaignError as exc:
                raise ProblemError(HTTPStatus.CONFLICT, str(exc)) from exc

        router.add_api_route(
            f"/{{number}}/{order}",
            command,
            methods=["POST"],
            name=f"{order} campaign",
            operation_id=f"{order}_campaign",
            description=what,
            responses=_REFUSED,
        )

    add_order(CampaignOrder.START, "Start a planned campaign.")
    add_order(
        CampaignOrder.PAUSE, "Request nothing more of it until it is resumed; what runs goes on."
    )
    add_order(CampaignOrder.RESUME, "Go on with a paused campaign.")
    add_order(
        CampaignOrder.CANCEL, "Request nothing more of it, for good; what runs goes on to its end."
    )


def _found(campaign: Campaign | None, number: Number) -> Campaign:
    if campaign is None:
        raise _unknown(number)
    return campaign


def _unknown(number: Number) -> ProblemError:
    return ProblemError(HTTPStatus.NOT_FOUND, f"campaign {number}: not found")
