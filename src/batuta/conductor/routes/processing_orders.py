"""What an operator may order for one processing, carried out."""

import asyncio
from http import HTTPStatus

from batuta.conductor.database.graphs.dropped_products import last_with, why_not_made
from batuta.conductor.database.views.observations import (
    ConductorProcessing,
    Views,
)
from batuta.conductor.decisions.processing_record import AT_PROVIDER, TO_BE_MADE, ProcessingRecord
from batuta.conductor.dispatch.providers import CANNOT
from batuta.conductor.routes.bulk_routes import Order, UrgencyBody
from batuta.conductor.routes.common import (
    unknown_product,
)
from batuta.conductor.routes.components import Components
from batuta.errors import one_line
from batuta.service.client import ServiceError
from batuta.service.database import reading
from batuta.service.operators import Operator
from batuta.service.problems import ProblemError


class ProcessingOrders:
    """What an operator may order for one processing."""

    def __init__(self, components: Components) -> None:
        self._components = components
        self._dispatcher = components.dispatcher
        self._views = components.views

    async def make(self, order: Order, by: Operator) -> ConductorProcessing:
        """Request a product."""
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
        """Stop a processing, here and at its provider."""
        operations = self._dispatcher.ledger.operations
        before = await self._dispatcher.write(operations.cancel, processing_id, reason, by)
        if before is not None:
            await _cancel_at_provider(self._components, before)
        return await asyncio.to_thread(find_processing, self._views, processing_id)

    async def retry(
        self, processing_id: str, reason: str | None, by: Operator
    ) -> ConductorProcessing:
        """Renew the attempts of a processing."""
        found = await asyncio.to_thread(find_processing, self._views, processing_id)
        row = await self._dispatcher.write(
            self._dispatcher.ledger.operations.retry, processing_id, reason, by
        )
        if row is None:
            why = await asyncio.to_thread(_why_not_made, self._components, found.product)
            if why is not None:
                raise ProblemError(HTTPStatus.CONFLICT, f"processing {processing_id}: {why}")
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
        """Change the class or the priority of a processing."""
        operations = self._dispatcher.ledger.operations
        row = await self._dispatcher.write(
            operations.reprioritize, processing_id, body.urgency(), body.reason, by
        )
        found = await asyncio.to_thread(find_processing, self._views, processing_id)
        if row is None and found.state not in TO_BE_MADE:
            raise ProblemError(
                HTTPStatus.CONFLICT,
                f"processing {processing_id} is {found.state} "
                "(only what is to be requested can be reprioritized)",
            )
        self._dispatcher.wake()
        return found


def find_processing(views: Views, processing_id: str) -> ConductorProcessing:
    """Return a processing.

    Raises
    ------
    ProblemError
        If it is not known.
    """
    found = views.processing(processing_id)
    if found is None:
        dropped = views.has_dropped()
        hint = " (or its record was dropped: batuta why PRODUCT OBS_ID tells)" if dropped else ""
        raise ProblemError(HTTPStatus.NOT_FOUND, f"processing {processing_id!r}: not found{hint}")
    return found


def _check_order(components: Components, order: Order) -> None:
    graph = components.graph
    if order.product not in graph.products:
        with reading(components.events.engine) as connection:
            dropped = last_with(connection, components.current_graph, order.product)
        why = None if dropped is None else _why_not_made(components, order.product)
        if why is not None and order.product not in graph.inputs:
            raise ProblemError(HTTPStatus.NOT_FOUND, why, known=sorted(graph.products))
        raise unknown_product(graph, order.product)
    available = components.views.why(order.product, order.obs_id).available
    absent = list(graph.products[order.product].lacks(available))
    if absent:
        raise ProblemError(
            HTTPStatus.CONFLICT,
            f"{order.product} of {order.obs_id}: inputs that it needs are not available: "
            f"{', '.join(absent)}",
            lacks=absent,
        )


def _why_not_made(components: Components, product: str) -> str | None:
    with reading(components.events.engine) as connection:
        return why_not_made(connection, components.current_graph, product)


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
