"""The conductor's REST interface."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Query, Response
from pydantic import BaseModel

from batuta.conductor.dispatcher import Dispatcher
from batuta.conductor.ledger import Row
from batuta.conductor.providers import Providers
from batuta.conductor.views import (
    MAX_ITEMS,
    ConductorProcessing,
    ObservationDetail,
    ObservationView,
    Views,
    Why,
)
from batuta.graph import Graph
from batuta.messaging import ProcessingState, ServiceStatus
from batuta.messaging.events import Name
from batuta.service.client import ServiceError
from batuta.service.pagination import Page
from batuta.service.problems import ProblemError

Limit = Annotated[int, Query(ge=1, le=MAX_ITEMS)]


class Order(BaseModel):
    """A processing asked for by a person."""

    product: Name
    obs_id: Name


@dataclass(frozen=True)
class Parts:
    """What the interface stands on."""

    graph: Graph
    views: Views
    dispatcher: Dispatcher
    providers: Providers
    services: Callable[[], list[ServiceStatus]]


def add_routes(app: FastAPI, parts: Parts) -> None:
    """Return `app` all that the conductor answers."""
    _add_observations(app, parts)
    _add_processings(app, parts)
    _add_holds(app, parts)

    @app.get("/graph", tags=["graph"])
    def graph() -> dict[str, object]:
        """The product graph, as read and checked."""
        return dict(parts.graph.as_document())

    @app.get("/why/{product}/{obs_id}", tags=["graph"])
    def why(product: str, obs_id: str) -> Why:
        """Why a product was, or was not, made."""
        if not parts.graph.knows(product):
            raise _unknown_product(parts.graph, product)
        return parts.views.why(product, obs_id)

    @app.get("/services", tags=["service"])
    def services() -> Page[ServiceStatus]:
        """The services heard lately on ``activity.*``."""
        return Page(items=parts.services())


def _add_observations(app: FastAPI, parts: Parts) -> None:
    @app.get("/observations", tags=["observations"])
    def observations(limit: Limit = 100, cursor: str | None = None) -> Page[ObservationView]:
        """Observations that something is known of."""
        return parts.views.observations(limit, cursor)

    @app.get("/observations/{obs_id}", tags=["observations"])
    def observation(obs_id: str) -> ObservationDetail:
        """One observation: its products, made, being made, or missing."""
        found = parts.views.observation(obs_id)
        if found is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, f"obs_id {obs_id!r}: nothing is known of it")
        return found


def _add_processings(app: FastAPI, parts: Parts) -> None:
    dispatcher, views = parts.dispatcher, parts.views

    @app.get("/processings", tags=["processings"])
    def processings(
        state: ProcessingState | None = None,
        product: str | None = None,
        obs_id: str | None = None,
        provider: str | None = None,
        limit: Limit = 100,
        cursor: str | None = None,
    ) -> Page[ConductorProcessing]:
        """Processings, the newest first."""
        filters = {"state": state, "product": product, "obs_id": obs_id, "provider": provider}
        try:
            return views.processings(filters, limit, cursor)
        except ValueError as exc:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY, f"cursor: {cursor!r} is none that was given out"
            ) from exc

    @app.post("/processings", tags=["processings"], status_code=HTTPStatus.ACCEPTED)
    async def make(order: Order, response: Response) -> ConductorProcessing:
        """Have a product made, whatever was made before."""
        await asyncio.to_thread(_refuse_impossible, parts, order)
        row = await dispatcher.write(dispatcher.ledger.ask_for, order.product, order.obs_id)
        dispatcher.wake()
        response.headers["Location"] = f"/processings/{row.id}"
        return views.shown(row)

    @app.get("/processings/{processing_id}", tags=["processings"])
    def processing(processing_id: str) -> ConductorProcessing:
        """One processing."""
        return _known(views, processing_id)

    @app.delete("/processings/{processing_id}", tags=["processings"])
    async def cancel(processing_id: str) -> ConductorProcessing:
        """Stop a processing that has not ended, here and at its provider."""
        before = await dispatcher.write(
            dispatcher.ledger.cancel, processing_id, "cancelled by a person"
        )
        if before is not None:
            await _cancel_at_provider(parts, before)
        return await asyncio.to_thread(_known, views, processing_id)

    @app.post(
        "/processings/{processing_id}/retry", tags=["processings"], status_code=HTTPStatus.ACCEPTED
    )
    async def retry(processing_id: str) -> ConductorProcessing:
        """Try a failed or cancelled processing again, with all its attempts anew."""
        known = await asyncio.to_thread(_known, views, processing_id)
        row = await dispatcher.write(dispatcher.ledger.retry, processing_id)
        if row is None:
            raise ProblemError(
                HTTPStatus.CONFLICT,
                f"processing {processing_id} is {known.state} "
                "(accepted: a failed or cancelled one)",
            )
        dispatcher.wake()
        return views.shown(row)


def _add_holds(app: FastAPI, parts: Parts) -> None:
    dispatcher = parts.dispatcher

    async def change(work: Callable[[str | None], None], provider: str | None) -> dict[str, Any]:
        if provider is not None and provider not in parts.graph.providers:
            known = sorted(parts.graph.providers)
            raise ProblemError(
                HTTPStatus.NOT_FOUND,
                f"provider {provider!r}: the graph has none of that name (known: "
                f"{', '.join(known)})",
                known=known,
            )
        await dispatcher.write(work, provider)
        dispatcher.wake()
        return {"held": await dispatcher.write(dispatcher.ledger.held)}

    @app.post("/hold", tags=["holds"])
    async def hold() -> dict[str, Any]:
        """Request nothing more, of any provider, until released."""
        return await change(dispatcher.ledger.hold, None)

    @app.delete("/hold", tags=["holds"])
    async def release() -> dict[str, Any]:
        """End the hold of all providers."""
        return await change(dispatcher.ledger.release, None)

    @app.post("/providers/{provider}/hold", tags=["holds"])
    async def hold_provider(provider: str) -> dict[str, Any]:
        """Request nothing more of one provider until released."""
        return await change(dispatcher.ledger.hold, provider)

    @app.delete("/providers/{provider}/hold", tags=["holds"])
    async def release_provider(provider: str) -> dict[str, Any]:
        """End the hold of one provider."""
        return await change(dispatcher.ledger.release, provider)


def _known(views: Views, processing_id: str) -> ConductorProcessing:
    found = views.processing(processing_id)
    if found is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"processing {processing_id!r}: there is none")
    return found


def _refuse_impossible(parts: Parts, order: Order) -> None:
    if order.product not in parts.graph.products:
        raise _unknown_product(parts.graph, order.product)
    why = parts.views.why(order.product, order.obs_id)
    absent = [
        name for name in parts.graph.products[order.product].m_input if name not in why.available
    ]
    if absent:
        raise ProblemError(
            HTTPStatus.CONFLICT,
            f"{order.product} of {order.obs_id}: mandatory inputs are not available: "
            f"{', '.join(absent)}",
            lacks=absent,
        )


def _unknown_product(graph: Graph, product: str) -> ProblemError:
    known = sorted(graph.products)
    return ProblemError(
        HTTPStatus.NOT_FOUND,
        f"product {product!r}: the graph makes none of that name (known: {', '.join(known)})",
        known=known,
    )


async def _cancel_at_provider(parts: Parts, before: Row) -> None:
    at_provider = (ProcessingState.REQUESTED, ProcessingState.QUEUED, ProcessingState.RUNNING)
    if before.state not in at_provider:
        return
    try:
        await parts.providers.cancel(before.provider, before.id)
    except ServiceError as exc:
        if exc.status != HTTPStatus.NOT_FOUND:
            raise ProblemError(
                HTTPStatus.BAD_GATEWAY,
                f"cancelled here, but its provider could not be told: {exc}",
            ) from exc
