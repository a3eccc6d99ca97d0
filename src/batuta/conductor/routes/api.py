"""The conductor's REST interface."""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import FastAPI, Query, Response
from pydantic import AwareDatetime

from batuta.conductor.activity import ServiceRegistry
from batuta.conductor.campaign_runner import CampaignRunner
from batuta.conductor.database.current_graph import CurrentGraph
from batuta.conductor.database.lists import ObservationOrder
from batuta.conductor.database.orders import OrderViews
from batuta.conductor.database.stops import StopStore
from batuta.conductor.database.summaries import Summary
from batuta.conductor.database.views.approval_views import ApprovalViews
from batuta.conductor.database.views.event_views import EventViews
from batuta.conductor.database.views.failure_views import FailureViews
from batuta.conductor.database.views.hold_views import HoldViews
from batuta.conductor.database.views.late_views import LateViews
from batuta.conductor.database.views.matrix_views import MatrixViews
from batuta.conductor.database.views.observations import (
    MAX_ITEMS,
    ConductorProcessing,
    Following,
    ObservationDetail,
    ObservationView,
    Views,
)
from batuta.conductor.database.views.provider_views import ProviderViews
from batuta.conductor.database.views.rate_views import RateViews
from batuta.conductor.database.views.report_views import ReportViews
from batuta.conductor.database.views.why_views import WhyDetail, WhyViews
from batuta.conductor.decisions.failures import MAX_LENGTH
from batuta.conductor.decisions.processing_record import AT_PROVIDER, TO_BE_MADE, ProcessingRecord
from batuta.conductor.dispatch.archive import Archive
from batuta.conductor.dispatch.callbacks import CallbackAddresses, callback_router
from batuta.conductor.dispatch.dispatcher import Dispatcher
from batuta.conductor.dispatch.providers import CANNOT, Providers
from batuta.conductor.graph_changer import GraphChanger
from batuta.conductor.hold_watch import HoldWatch
from batuta.conductor.order_worker import OrderWorker
from batuta.conductor.pruner import Pruner
from batuta.conductor.reconciliation import Reconciler
from batuta.conductor.routes.approval_routes import approval_router
from batuta.conductor.routes.bulk_routes import Order, Reason, UrgencyBody, bulk_router
from batuta.conductor.routes.campaign_routes import campaign_router
from batuta.conductor.routes.dead_routes import dead_router
from batuta.conductor.routes.event_routes import event_router
from batuta.conductor.routes.failure_routes import failure_router
from batuta.conductor.routes.graph_routes import graph_router
from batuta.conductor.routes.hold_routes import hold_router
from batuta.conductor.routes.late_routes import late_router
from batuta.conductor.routes.log_routes import log_router
from batuta.conductor.routes.matrix_routes import matrix_router
from batuta.conductor.routes.order_routes import order_router
from batuta.conductor.routes.provider_routes import provider_router
from batuta.conductor.routes.reconciliation_routes import reconciliation_router
from batuta.conductor.routes.report_routes import report_router
from batuta.conductor.routes.set_routes import set_router
from batuta.conductor.routes.stop_routes import stop_router
from batuta.errors import one_line
from batuta.graph import Graph
from batuta.messaging import ProcessingState, ServiceStatus
from batuta.messaging.dead_letters import DeadLetters
from batuta.service.client import ServiceError
from batuta.service.http_pool import HttpPool
from batuta.service.operator_requests import ByOperator
from batuta.service.operators import Operator
from batuta.service.pagination import Page
from batuta.service.problems import ProblemError, problem_responses
from batuta.service.retention_routes import add_retention_routes
from batuta.service.routing import add_routers
from batuta.spelling import NameSuggester
from batuta.stages import STAGE_RULE, Stage, stage_from_text
from batuta.work_classes import WorkClass

_UNKNOWN: Final = problem_responses(HTTPStatus.NOT_FOUND)

Limit = Annotated[int, Query(ge=1, le=MAX_ITEMS)]


Pattern = Annotated[
    str | None, Query(max_length=200, description="`*` stands for any text, `?` for any letter.")
]


StageFilter = Annotated[
    str | None, Query(max_length=20, description=f"As it was told: {STAGE_RULE}.")
]


@dataclass(frozen=True)
class Components:
    """What the REST interface calls."""

    current_graph: CurrentGraph
    views: Views
    dispatcher: Dispatcher
    providers: Providers
    archive: Archive
    reconciler: Reconciler
    registry: ServiceRegistry
    pruner: Pruner
    callback_addresses: CallbackAddresses
    events: EventViews
    dead_letters: DeadLetters
    logs: HttpPool
    late: LateViews
    graph_changer: GraphChanger
    holds: HoldViews
    hold_watch: HoldWatch
    campaigns: CampaignRunner
    order_worker: OrderWorker
    provider_views: ProviderViews
    stops: StopStore

    @property
    def graph(self) -> Graph:
        """The graph in force."""
        return self.current_graph.graph


def add_routes(app: FastAPI, components: Components) -> None:
    """Add all the routes of the conductor to `app`."""
    _add_observations(app, components)
    _add_processings(app, components)
    add_routers(app, reconciliation_router(components.reconciler, components.dispatcher))
    add_routers(app, callback_router(components.callback_addresses, components.dispatcher))
    add_routers(app, event_router(components.events))
    add_routers(app, log_router(components.views, components.logs))
    add_routers(app, dead_router(components.dead_letters, components.events, components.dispatcher))
    add_routers(app, late_router(components.late))
    add_routers(app, failure_router(FailureViews(components.events.engine)))
    add_routers(app, stop_router(components.stops))
    add_routers(
        app, approval_router(ApprovalViews(components.events.engine), components.dispatcher)
    )
    add_routers(app, order_router(OrderViews(components.events.engine)))
    add_routers(
        app,
        set_router(components.order_worker, components.views, OrderViews(components.events.engine)),
    )
    add_routers(app, graph_router(components.graph_changer))
    add_routers(
        app,
        hold_router(
            components.current_graph, components.holds, components.hold_watch, components.dispatcher
        ),
    )
    add_routers(app, campaign_router(components.campaigns))
    matrix = MatrixViews(components.events.engine, components.current_graph)
    add_routers(app, matrix_router(matrix))
    reports = ReportViews(components.events.engine, components.current_graph)
    rates = RateViews(components.events.engine)
    add_routers(app, report_router(reports, rates, components.dead_letters))
    add_routers(app, provider_router(components.provider_views, components.dispatcher))
    add_retention_routes(app, components.pruner)

    @app.get("/why/{product}/{obs_id}", tags=["graph"], responses=_UNKNOWN)
    def why(product: str, obs_id: str) -> WhyDetail:
        """Why a product was, or was not, made: from the record, as data and in words."""
        graph = components.graph
        if not graph.knows(product) and not components.views.was_asked_for(product, obs_id):
            raise _unknown_product(graph, product)
        views = WhyViews(components.events, components.late, components.provider_views)
        return views.why(product, obs_id)

    approvals = ApprovalViews(components.events.engine)

    @app.get("/summary", tags=["service"])
    def summary() -> Summary:
        """What is recorded, counted: by state, by product and by provider."""
        found = components.views.counts().summary()
        more = {
            "stale": components.views.stale_count(),
            "to_approve": sum(approvals.count().values()),
        }
        return found.model_copy(update=more)

    @app.get("/services", tags=["service"])
    def services() -> Page[ServiceStatus]:
        """The services that reported recently on ``activity.*``."""
        return Page(items=components.registry.services())


def _add_observations(app: FastAPI, components: Components) -> None:
    @app.get("/observations", tags=["observations"])
    def observations(
        limit: Limit = 100,
        cursor: str | None = None,
        order: ObservationOrder = ObservationOrder.OBS_ID,
        stage: StageFilter = None,
    ) -> Page[ObservationView]:
        """Observations with available products; with `stage`, any of which was told to be so."""
        try:
            return components.views.observations(limit, cursor, order, _stage_of(stage))
        except ValueError as exc:
            raise _invalid_cursor(cursor) from exc

    @app.get("/observations/{obs_id}", tags=["observations"], responses=_UNKNOWN)
    def observation(obs_id: str) -> ObservationDetail:
        """One observation: its products, made, being made, or missing."""
        found = components.views.observation(obs_id)
        if found is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, f"obs_id {obs_id!r}: not found")
        return found

    @app.get(
        "/observations/{obs_id}/following/{product}", tags=["observations"], responses=_UNKNOWN
    )
    def following(
        obs_id: str, product: str, version: Annotated[int, Query(ge=0, lt=2**31)] = 0
    ) -> Following:
        """What follows from a version of a product: what is open, made, and failed."""
        if not components.graph.knows(product):
            raise _unknown_product(components.graph, product)
        return components.views.following(product, obs_id, version)


def _add_processings(app: FastAPI, components: Components) -> None:
    views = components.views

    @app.get("/processings", tags=["processings"])
    def processings(  # noqa: PLR0913, PLR0917  each is a filter
        state: ProcessingState | None = None,
        product: Pattern = None,
        obs_id: Pattern = None,
        provider: Pattern = None,
        work_class: Annotated[WorkClass | None, Query(alias="class")] = None,
        stage: StageFilter = None,
        campaign: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
        error_kind: Annotated[
            str | None, Query(max_length=MAX_LENGTH, description="That of a group of failures.")
        ] = None,
        since: AwareDatetime | None = None,
        until: AwareDatetime | None = None,
        stale: Annotated[
            bool, Query(description="Only those whose product is available, and stale.")
        ] = False,
        limit: Limit = 100,
        cursor: str | None = None,
    ) -> Page[ConductorProcessing]:
        """Processings, the newest first; `since` and `until` are about when they were claimed."""
        filters = {
            "state": state,
            "product": product,
            "obs_id": obs_id,
            "provider": provider,
            "work_class": work_class,
            "stage": _stage_of(stage),
            "campaign": campaign,
            "error_kind": error_kind,
        }
        try:
            return views.processings(filters, limit, cursor, since, until, stale=stale)
        except ValueError as exc:
            raise _invalid_cursor(cursor) from exc

    @app.get("/processings/{processing_id}", tags=["processings"], responses=_UNKNOWN)
    def processing(processing_id: str) -> ConductorProcessing:
        """One processing."""
        return _find(views, processing_id)

    work = _Work(components)

    @app.post(
        "/processings",
        tags=["processings"],
        status_code=HTTPStatus.ACCEPTED,
        responses=_UNKNOWN | problem_responses(HTTPStatus.CONFLICT),
    )
    async def make(order: Order, response: Response, by: ByOperator) -> ConductorProcessing:
        """Request a product, whether or not it was made before."""
        made = await work.make(order, by)
        response.headers["Location"] = f"/processings/{made.id}"
        return made

    @app.delete(
        "/processings/{processing_id}",
        tags=["processings"],
        responses=_UNKNOWN | problem_responses(HTTPStatus.BAD_GATEWAY),
    )
    async def cancel(
        processing_id: str, by: ByOperator, reason: Annotated[Reason, Query()] = None
    ) -> ConductorProcessing:
        """Stop a processing that has not ended, here and at its provider."""
        return await work.cancel(processing_id, reason, by)

    @app.post(
        "/processings/{processing_id}/retry",
        tags=["processings"],
        status_code=HTTPStatus.ACCEPTED,
        responses=_UNKNOWN | problem_responses(HTTPStatus.CONFLICT),
    )
    async def retry(
        processing_id: str, by: ByOperator, reason: Annotated[Reason, Query()] = None
    ) -> ConductorProcessing:
        """Retry what failed, was cancelled or waits to be retried: now, with all its attempts."""
        return await work.retry(processing_id, reason, by)

    @app.post(
        "/processings/{processing_id}/reprioritize",
        tags=["processings"],
        responses=_UNKNOWN | problem_responses(HTTPStatus.CONFLICT),
    )
    async def reprioritize(
        processing_id: str, body: UrgencyBody, by: ByOperator
    ) -> ConductorProcessing:
        """Change the class or the priority of what is to be made."""
        body.check_given()
        return await work.reprioritize(processing_id, body, by)

    add_routers(app, bulk_router(work.make, work.retry, work.cancel, work.reprioritize))


class _Work:
    """What an operator may order for one processing."""

    def __init__(self, components: Components) -> None:
        self._components = components
        self._dispatcher = components.dispatcher
        self._views = components.views

    async def make(self, order: Order, by: Operator) -> ConductorProcessing:
        await asyncio.to_thread(_check_order, self._components, order)
        operations = self._dispatcher.ledger.operations
        row = await self._dispatcher.write(
            operations.make, order.product, order.obs_id, order.work_class, by
        )
        self._dispatcher.wake()
        return self._views.processing_of(row)

    async def cancel(
        self, processing_id: str, reason: str | None, by: Operator
    ) -> ConductorProcessing:
        operations = self._dispatcher.ledger.operations
        before = await self._dispatcher.write(operations.cancel, processing_id, reason, by)
        if before is not None:
            await _cancel_at_provider(self._components, before)
        return await asyncio.to_thread(_find, self._views, processing_id)

    async def retry(
        self, processing_id: str, reason: str | None, by: Operator
    ) -> ConductorProcessing:
        found = await asyncio.to_thread(_find, self._views, processing_id)
        row = await self._dispatcher.write(
            self._dispatcher.ledger.operations.retry, processing_id, reason, by
        )
        if row is None:
            raise ProblemError(
                HTTPStatus.CONFLICT,
                f"processing {processing_id} is {found.state} "
                "(only what failed, was cancelled or waits to be retried can be retried)",
            )
        self._dispatcher.wake()
        return self._views.processing_of(row)

    async def reprioritize(
        self, processing_id: str, body: UrgencyBody, by: Operator
    ) -> ConductorProcessing:
        operations = self._dispatcher.ledger.operations
        row = await self._dispatcher.write(
            operations.reprioritize, processing_id, body.urgency(), body.reason, by
        )
        found = await asyncio.to_thread(_find, self._views, processing_id)
        if row is None and found.state not in TO_BE_MADE:
            raise ProblemError(
                HTTPStatus.CONFLICT,
                f"processing {processing_id} is {found.state} "
                "(only what is to be requested can be reprioritized)",
            )
        self._dispatcher.wake()
        return found


def _stage_of(text: str | None) -> Stage | None:
    try:
        return None if text is None else stage_from_text(text)
    except ValueError as exc:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"stage: {exc}") from exc


def _invalid_cursor(cursor: str | None) -> ProblemError:
    return ProblemError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        f"cursor: invalid cursor {cursor!r} (accepted: the `next` of a page)",
    )


def _find(views: Views, processing_id: str) -> ConductorProcessing:
    found = views.processing(processing_id)
    if found is None:
        dropped = views.has_dropped()
        hint = " (or its record was dropped: batuta why PRODUCT OBS_ID tells)" if dropped else ""
        raise ProblemError(HTTPStatus.NOT_FOUND, f"processing {processing_id!r}: not found{hint}")
    return found


def _check_order(components: Components, order: Order) -> None:
    graph = components.graph
    if order.product not in graph.products:
        raise _unknown_product(graph, order.product)
    why = components.views.why(order.product, order.obs_id)
    absent = list(graph.products[order.product].lacks(why.available))
    if absent:
        raise ProblemError(
            HTTPStatus.CONFLICT,
            f"{order.product} of {order.obs_id}: inputs that it needs are not available: "
            f"{', '.join(absent)}",
            lacks=absent,
        )


def _unknown_product(graph: Graph, product: str) -> ProblemError:
    known = sorted(graph.products)
    if product in graph.inputs:
        detail = f'{product} is an input: it comes by "batuta import"'
    else:
        hint = NameSuggester([*graph.products, *graph.inputs]).hint(product)
        detail = f"product {product!r}: not in the graph{hint} (known: {', '.join(known)})"
    return ProblemError(HTTPStatus.NOT_FOUND, detail, known=known)


async def _cancel_at_provider(components: Components, before: ProcessingRecord) -> None:
    # Recorded first: if the pipeline cannot be reached, the processing is cancelled all the same,
    # and of what the pipeline reports later only a success counts.
    if before.state not in AT_PROVIDER:
        return
    try:
        await components.providers.cancel(before)
    except ServiceError as exc:
        if exc.status not in CANNOT:
            stops = components.stops
            await components.dispatcher.write(stops.add, before, one_line(exc))
            raise ProblemError(
                HTTPStatus.BAD_GATEWAY,
                f"cancelled in the conductor, but its provider could not be notified: {exc}; it is "
                "told again",
            ) from exc
