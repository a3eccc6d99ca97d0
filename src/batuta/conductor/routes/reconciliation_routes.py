"""Routes that compare the conductor's records with the sdb, and mend them."""

import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from batuta.conductor.database.views.observations import MAX_ITEMS
from batuta.conductor.decisions.differences import Difference
from batuta.conductor.dispatch.dispatcher import Dispatcher
from batuta.conductor.reconciliation import Reconciler, mend
from batuta.messaging.events import Name
from batuta.service.client import ServiceError
from batuta.service.operator_requests import ByOperator
from batuta.service.operators import Operator
from batuta.service.problems import ProblemError, problem_responses
from batuta.service.routing import ServiceRouter


class Reconciliation(BaseModel):
    """How the conductor's records differ from what the sdb holds.

    `counts` has the number of differences of each kind, `items` the first of them. `mended` tells
    that they have been mended.
    """

    mended: bool
    counts: dict[str, int] = {}
    items: list[Difference] = []

    def add(self, differences: Sequence[Difference]) -> None:
        """Add differences."""
        for each in differences:
            self.counts[each.kind] = self.counts.get(each.kind, 0) + 1
        self.items.extend(differences[: MAX_ITEMS - len(self.items)])


def reconciliation_router(reconciler: Reconciler, dispatcher: Dispatcher) -> ServiceRouter:
    """Routes that show the differences, mend them, and forget one product."""
    router = ServiceRouter(tags=["reconciliation"])

    @router.get("/reconciliation", responses=problem_responses(HTTPStatus.BAD_GATEWAY))
    async def differences() -> Reconciliation:
        """How the conductor's records differ from what the sdb holds."""
        return await _compare(reconciler, None)

    @router.post("/reconciliation", responses=problem_responses(HTTPStatus.BAD_GATEWAY))
    async def reconcile(by: ByOperator) -> Reconciliation:
        """Make the conductor's records agree with the sdb, and make again what was lost."""
        return await _compare(reconciler, _Mending(dispatcher, by, "reconcile --apply"))

    @router.delete(
        "/observations/{obs_id}/products/{product}",
        responses=problem_responses(
            HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.BAD_GATEWAY
        ),
    )
    async def forget(obs_id: Name, product: Name, by: ByOperator) -> Difference:
        """Stop believing that a version which the sdb does not hold is available."""
        difference = await _difference_of(reconciler, product, obs_id)
        about = {"product": product, "obs_id": obs_id, "version": difference.recorded}
        await _Mending(dispatcher, by, "forget", about).mend([difference])
        return difference

    return router


class _Mending:
    """Mends differences as an operator has ordered, which is recorded once there is one."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        by: Operator,
        command: str,
        about: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._dispatcher = dispatcher
        self._order = by, command, dict(about)
        self._number: int | None = None

    async def mend(self, differences: Sequence[Difference]) -> None:
        if not differences:
            return
        write, commands = self._dispatcher.write, self._dispatcher.ledger.commands
        if self._number is None:
            self._number = await write(commands.begin, *self._order)
        await mend(self._dispatcher, differences)
        await write(commands.add, self._number, len(differences))


async def _compare(reconciler: Reconciler, mending: _Mending | None) -> Reconciliation:
    result = Reconciliation(mended=mending is not None)
    try:
        async for differences in reconciler.differences(time.time()):
            if mending is not None:
                await mending.mend(differences)
            result.add(differences)
    except ServiceError as exc:
        raise _sdb_unavailable(exc) from exc
    return result


async def _difference_of(reconciler: Reconciler, product: str, obs_id: str) -> Difference:
    try:
        difference = await reconciler.difference_of(product, obs_id)
    except KeyError as exc:
        raise ProblemError(
            HTTPStatus.NOT_FOUND, f"{product} of {obs_id}: not available, nothing to forget"
        ) from exc
    except ServiceError as exc:
        raise _sdb_unavailable(exc) from exc
    if difference is None:
        raise ProblemError(
            HTTPStatus.CONFLICT,
            f"{product} of {obs_id}: the sdb holds what is recorded (only what it does not hold "
            "can be forgotten)",
        )
    return difference


def _sdb_unavailable(exc: ServiceError) -> ProblemError:
    return ProblemError(HTTPStatus.BAD_GATEWAY, str(exc))
