"""Carrying out orders for sets, a batch at a time, while decisions go on."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from batuta.conductor.database.operations.order_sets import OrderSets, SetOrder
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.conductor.dispatch.dispatcher import Dispatcher
from batuta.conductor.dispatch.providers import Providers
from batuta.errors import one_line
from batuta.service.database import UNAVAILABLE

LOG: Final = logging.getLogger(__name__)

IDLE_S: Final = 5.0
"""Orders are read this often, in seconds: another conductor of the same database may end."""
MAX_TOLD_AT_ONCE: Final = 8
"""Cancellations that are sent to providers at the same time."""


class OrderWorker:
    """Carries out the orders that were recorded; one that a kill interrupted goes on.

    Parameters
    ----------
    orders : OrderSets
        The orders.
    dispatcher : Dispatcher
        Writes, and requests what is retried.
    providers : Providers
        Are told what was cancelled.
    """

    def __init__(self, orders: OrderSets, dispatcher: Dispatcher, providers: Providers) -> None:
        self.sets = orders
        self._dispatcher = dispatcher
        self._providers = providers
        self._wakeup = asyncio.Event()

    async def give(self, given: SetOrder) -> int:
        """Record an order, and begin with it; return its number."""
        found = await asyncio.to_thread(self.sets.select, given.filters)
        number = await self._dispatcher.write(self.sets.begin, given, found.total, found.by_product)
        self._wakeup.set()
        return number

    async def run(self) -> None:
        """Carry out orders, the oldest first, until cancelled."""
        while True:
            self._wakeup.clear()
            try:
                # Others write between two batches: each waits for its turn.
                while await self.carry_out_batch():
                    pass
            except UNAVAILABLE as exc:
                LOG.warning("orders: %s; carried out later", one_line(exc))
            try:
                async with asyncio.timeout(IDLE_S):
                    await self._wakeup.wait()
            except TimeoutError:
                continue

    async def carry_out_batch(self) -> bool:
        """Carry out a batch of the oldest order; return whether there was one."""
        order = await asyncio.to_thread(self.sets.under_way)
        if order is None:
            return False
        ids, position = await asyncio.to_thread(self.sets.next_batch, order)
        at_provider = await self._dispatcher.write(self.sets.carry_out, order, ids, position)
        self._dispatcher.wake()
        await self._tell(order.number, at_provider)
        return True

    async def _tell(self, number: int, cancelled: Sequence[ProcessingRecord]) -> None:
        # Recorded first: what a provider cannot be told is cancelled here all the same.
        stops = self._dispatcher.ledger.stops
        for start in range(0, len(cancelled), MAX_TOLD_AT_ONCE):
            some = cancelled[start : start + MAX_TOLD_AT_ONCE]
            answers = await asyncio.gather(*map(self._providers.stop, some))
            told = list(zip(some, answers, strict=True))
            await self._dispatcher.write(stops.record_told, told)
            for record, answer in told:
                if answer.failure is not None:
                    why = f"its provider could not be notified of {record.id}: {answer.failure}"
                    await self._dispatcher.write(self.sets.record_problem, number, why)
