"""What an operator may order for one processing, carried out."""

import asyncio
from http import HTTPStatus

from batuta.conductor.database.operations.operator_actions import (
    Answered,
    LacksInputsError,
    NotInGraphError,
)
from batuta.conductor.database.records import Row
from batuta.conductor.database.views.observations import (
    ConductorProcessing,
    Views,
)
from batuta.conductor.decisions.processing_record import AT_PROVIDER, TO_BE_MADE, ProcessingRecord
from batuta.conductor.routes.bulk_routes import Order, UrgencyBody
from batuta.conductor.routes.common import (
    unknown_product,
)
from batuta.conductor.routes.components import Components
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
        operations = self._dispatcher.ledger.operations
        try:
            row = await self._dispatcher.write(
                operations.make, order.product, order.obs_id, order.work_class, by
            )
        except LacksInputsError as exc:
            raise ProblemError(HTTPStatus.CONFLICT, str(exc), lacks=exc.absent) from exc
        except NotInGraphError as exc:
            raise _not_in_graph(exc) from exc
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
        operations = self._dispatcher.ledger.operations
        answered = await self._dispatcher.write(operations.retry, processing_id, reason, by)
        row = await self._recorded(processing_id, answered)
        if not answered.changed:
            detail = answered.problem or (
                f"processing {processing_id} is {row.state} "
                "(only what failed, was cancelled or waits to be retried can be retried)"
            )
            if answered.problem is not None:
                detail = f"processing {processing_id}: {detail}"
            raise ProblemError(HTTPStatus.CONFLICT, detail)
        self._dispatcher.wake()
        return self._views.processing_of(row)

    async def reprioritize(
        self, processing_id: str, body: UrgencyBody, by: Operator
    ) -> ConductorProcessing:
        """Change the class or the priority of a processing."""
        operations = self._dispatcher.ledger.operations
        answered = await self._dispatcher.write(
            operations.reprioritize, processing_id, body.urgency(), body.reason, by
        )
        row = await self._recorded(processing_id, answered)
        if not answered.changed and row.state not in TO_BE_MADE:
            raise ProblemError(
                HTTPStatus.CONFLICT,
                f"processing {processing_id} is {row.state} "
                "(only what is to be requested can be reprioritized)",
            )
        self._dispatcher.wake()
        return self._views.processing_of(row)

    async def _recorded(self, processing_id: str, answered: Answered) -> Row:
        if answered.row is None:
            raise await asyncio.to_thread(_not_found, self._views, processing_id)
        return answered.row


def find_processing(views: Views, processing_id: str) -> ConductorProcessing:
    """Return a processing.

    Raises
    ------
    ProblemError
        If it is not known.
    """
    found = views.processing(processing_id)
    if found is None:
        raise _not_found(views, processing_id)
    return found


def _not_found(views: Views, processing_id: str) -> ProblemError:
    dropped = views.has_dropped()
    hint = " (or its record was dropped: batuta why PRODUCT OBS_ID tells)" if dropped else ""
    return ProblemError(HTTPStatus.NOT_FOUND, f"processing {processing_id!r}: not found{hint}")


def _not_in_graph(exc: NotInGraphError) -> ProblemError:
    if exc.why is None or exc.product in exc.graph.inputs:
        return unknown_product(exc.graph, exc.product)
    return ProblemError(HTTPStatus.NOT_FOUND, exc.why, known=sorted(exc.graph.products))


async def _cancel_at_provider(components: Components, before: ProcessingRecord) -> None:
    # Recorded first: if the pipeline cannot be reached, the processing is cancelled all the same,
    # and of what the pipeline reports later only a success counts.
    if before.state not in AT_PROVIDER:
        return
    answer = await components.providers.stop(before)
    await components.dispatcher.write(components.stops.record_told, [(before, answer)])
    if answer.failure is not None:
        raise ProblemError(
            HTTPStatus.BAD_GATEWAY,
            "cancelled in the conductor, but its provider could not be notified: "
            f"{answer.failure}; it is told again",
        )
