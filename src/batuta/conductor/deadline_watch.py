"""Looking after deadlines: what is late is told, what has expired is cancelled."""

import asyncio
from collections.abc import Callable
from typing import Final

from batuta.conductor.database.current_graph import CurrentGraph, ReadsGraph
from batuta.conductor.database.ledger import Ledger
from batuta.conductor.database.records import Row
from batuta.conductor.pruner import Write
from batuta.graph import Graph
from batuta.messaging import LateProduct
from batuta.messaging.processings import instant_of

CHECK_S: Final = 1.0
"""How often deadlines are compared with the clock, in seconds: one is noticed within this."""


class DeadlineWatch(ReadsGraph):
    """Compares the deadlines with the clock, as long as the graph has any.

    Parameters
    ----------
    graph : Graph or CurrentGraph
        The product graph, or what holds the one in force.
    ledger : Ledger
        The database.
    write : callable
        Runs what writes, in its turn.
    on_late, on_cancelled : callable
        Told what is late, and which processings were cancelled, once that is recorded.
    """

    def __init__(
        self,
        graph: Graph | CurrentGraph,
        ledger: Ledger,
        write: Write,
        on_late: Callable[[LateProduct], None],
        on_cancelled: Callable[[Row], None],
    ) -> None:
        super().__init__(graph)
        self._ledger = ledger
        self._write = write
        self._on_late = on_late
        self._on_cancelled = on_cancelled

    async def run(self) -> None:
        """Look at the clock every `CHECK_S` until cancelled."""
        while True:
            if self._graph.with_deadlines and await self._check():
                continue
            await asyncio.sleep(CHECK_S)

    async def _check(self) -> bool:
        """Record and tell what has passed; return whether there is more."""
        passed = await self._write(self._ledger.pass_deadlines)
        for row in passed.late:
            self._on_late(
                LateProduct(product=row.product, obs_id=row.obs_id, due=instant_of(row.due))
            )
        for row in passed.cancelled:
            self._on_cancelled(row)
        return passed.more
