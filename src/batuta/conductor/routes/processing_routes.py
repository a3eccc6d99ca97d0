"""REST routes of processings: listed, and what an operator orders for one."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Query, Response

from batuta.conductor.database.lists import Filter
from batuta.conductor.database.views.observations import (
    ConductorProcessing,
    Views,
)
from batuta.conductor.decisions.failures import MAX_LENGTH
from batuta.conductor.routes.bulk_routes import Order, Reason, UrgencyBody
from batuta.conductor.routes.common import (
    UNKNOWN,
    Limit,
    Pattern,
    StageFilter,
    invalid_cursor,
    stage_of,
)
from batuta.conductor.routes.processing_orders import ProcessingOrders, find_processing
from batuta.messaging import ProcessingState
from batuta.service.instants import Instant
from batuta.service.operator_requests import ByOperator
from batuta.service.pagination import Page
from batuta.service.problems import problem_responses
from batuta.service.routing import ServiceRouter
from batuta.work_classes import WorkClass


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessingQuery:
    """What a query selects processings by."""

    state: ProcessingState | None = None
    product: Pattern = None
    obs_id: Pattern = None
    provider: Pattern = None
    work_class: Annotated[WorkClass | None, Query(alias="class")] = None
    stage: StageFilter = None
    campaign: Annotated[int | None, Query(ge=1, lt=2**31)] = None
    error_kind: Annotated[
        str | None, Query(max_length=MAX_LENGTH, description="That of a group of failures.")
    ] = None
    since: Instant | None = None
    until: Instant | None = None
    stale: Annotated[
        bool, Query(description="Only those whose product is available, and stale.")
    ] = False

    def filters(self) -> Mapping[str, Filter | None]:
        """Return what columns are to be.

        Raises
        ------
        ProblemError
            If `stage` is not one.
        """
        return {
            "state": self.state,
            "product": self.product,
            "obs_id": self.obs_id,
            "provider": self.provider,
            "work_class": self.work_class,
            "stage": stage_of(self.stage),
            "campaign": self.campaign,
            "error_kind": self.error_kind,
        }


def processing_router(views: Views, orders: ProcessingOrders) -> ServiceRouter:
    """Return the routes."""
    router = ServiceRouter(prefix="/processings", tags=["processings"])
    _add_lists(router, views)
    _add_orders(router, orders)
    return router


def _add_lists(router: ServiceRouter, views: Views) -> None:
    @router.get("")
    def processings(
        query: Annotated[ProcessingQuery, Depends()], limit: Limit = 100, cursor: str | None = None
    ) -> Page[ConductorProcessing]:
        """Processings, the newest first; `since` and `until` are about when they were claimed."""
        filters, since, until = query.filters(), query.since, query.until
        try:
            return views.processings(filters, limit, cursor, since, until, stale=query.stale)
        except ValueError as exc:
            raise invalid_cursor(cursor) from exc

    @router.get("/{processing_id}", responses=UNKNOWN)
    def processing(processing_id: str) -> ConductorProcessing:
        """One processing."""
        return find_processing(views, processing_id)


def _add_orders(router: ServiceRouter, work: ProcessingOrders) -> None:
    @router.post(
        "",
        status_code=HTTPStatus.ACCEPTED,
        responses=UNKNOWN | problem_responses(HTTPStatus.CONFLICT),
    )
    async def make(order: Order, response: Response, by: ByOperator) -> ConductorProcessing:
        """Request a product, whether or not it was made before."""
        made = await work.make(order, by)
        response.headers["Location"] = f"/processings/{made.id}"
        return made

    @router.delete(
        "/{processing_id}",
        responses=UNKNOWN | problem_responses(HTTPStatus.BAD_GATEWAY),
    )
    async def cancel(
        processing_id: str, by: ByOperator, reason: Annotated[Reason, Query()] = None
    ) -> ConductorProcessing:
        """Stop a processing that has not ended, here and at its provider."""
        return await work.cancel(processing_id, reason, by)

    @router.post(
        "/{processing_id}/retry",
        status_code=HTTPStatus.ACCEPTED,
        responses=UNKNOWN | problem_responses(HTTPStatus.CONFLICT),
    )
    async def retry(
        processing_id: str, by: ByOperator, reason: Annotated[Reason, Query()] = None
    ) -> ConductorProcessing:
        """Retry what failed, was cancelled or waits to be retried: now, with all its attempts."""
        return await work.retry(processing_id, reason, by)

    @router.post(
        "/{processing_id}/reprioritize",
        responses=UNKNOWN | problem_responses(HTTPStatus.CONFLICT),
    )
    async def reprioritize(
        processing_id: str, body: UrgencyBody, by: ByOperator
    ) -> ConductorProcessing:
        """Change the class or the priority of what is to be made."""
        body.check_given()
        return await work.reprioritize(processing_id, body, by)
