"""Putting another graph in force while the conductor runs: previewed, recorded, then settled."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final

import sqlalchemy as sa

from batuta.conductor.database.graphs.graph_preview import GraphPreview, PreviewCounter
from batuta.conductor.database.graphs.graph_versions import (
    Applied,
    GraphVersion,
    GraphVersions,
    Unsettled,
)
from batuta.conductor.dispatch.dispatcher import Dispatcher
from batuta.conductor.reconciliation import Reconciler, mend
from batuta.graph import Graph
from batuta.sdb.records import StoredProduct
from batuta.service.client import ServiceError
from batuta.service.database import UNAVAILABLE
from batuta.service.operators import Operator
from batuta.work_classes import WorkClass

LOG: Final = logging.getLogger(__name__)

LOOK_S: Final = 60.0
"""How often it is looked for a version that another conductor has not settled, in seconds."""
RETRY_S: Final = 10.0
"""After so long, in seconds, what could not be settled is tried again."""


class GraphChanger:
    """Puts graphs in force, and brings what waits in line with them in the background.

    A version is in force as soon as its row is committed: every decision is its own from then on.
    What was claimed by an earlier one is settled before it is requested; all the rest follows
    observation by observation, and goes on after a kill where it was.

    Parameters
    ----------
    engine : sa.Engine
        The conductor's database.
    versions : GraphVersions
        The versions in it.
    dispatcher : Dispatcher
        Runs what writes, in its turn; sends what is due.
    reconciler : Reconciler
        Finds what the sdb holds of products that only the new graph knows.
    list_stored : callable
        Returns the newest versions of a product that the sdb holds; raises `ServiceError`.
    tell : callable
        Called with each version that is put in force.
    """

    def __init__(
        self,
        engine: sa.Engine,
        versions: GraphVersions,
        dispatcher: Dispatcher,
        reconciler: Reconciler,
        list_stored: Callable[[str], Iterable[StoredProduct]],
        tell: Callable[[GraphVersion], None],
    ) -> None:
        self.versions = versions
        self._engine = engine
        self._dispatcher = dispatcher
        self._reconciler = reconciler
        self._list_stored = list_stored
        self._tell = tell
        self._wakeup = asyncio.Event()

    async def apply(
        self,
        graph: Graph,
        by: Operator,
        note: str | None = None,
        work_class: WorkClass | None = None,
        instead_of: int | None = None,
    ) -> Applied:
        """Put a graph in force, and return the version that it is: see `GraphVersions.apply`.

        What it starts, and sets aside, follows in the background.
        """
        applied: Applied = await self._dispatcher.write(
            self.versions.apply, graph, by, note, work_class, instead_of
        )
        version = applied.version
        if applied.is_new:
            LOG.info("version %d of the graph is in force, by %s", version.number, version.by)
            self._tell(version)
        self._wakeup.set()
        self._dispatcher.wake()
        return applied

    async def preview(self, new: Graph, old: Graph | None = None) -> GraphPreview:
        """Return what a graph would change now, changing nothing.

        Compared with `old`, by default the graph in force.

        Raises
        ------
        ServiceError
            If the sdb is to be asked for products that only the new graph knows, and does not
            answer.
        """
        in_force = self.versions.current.in_force
        recorded: defaultdict[str, set[str]] = defaultdict(set)
        for name in _new_names(in_force.graph, new):
            for stored in await asyncio.to_thread(self._stored, name):
                recorded[stored.obs_id].add(name)
        counter = PreviewCounter(self._engine, old or in_force.graph, new, recorded)
        after: str | None = ""
        while after is not None:
            began = time.monotonic()
            after = await asyncio.to_thread(counter.count_page, after)
            # Half of the time at most: what arrives meanwhile is decided without delay.
            await asyncio.sleep(time.monotonic() - began)
        return await asyncio.to_thread(counter.result, in_force.number, old or in_force.graph)

    async def run(self) -> None:
        """Settle what is not settled, at the start and after each change, until cancelled."""
        while True:
            wait_s = LOOK_S
            self._wakeup.clear()
            try:
                await self.settle()
            except (ServiceError, *UNAVAILABLE) as exc:
                LOG.warning("graph: %s; what it starts is looked for again in %g s", exc, RETRY_S)
                wait_s = RETRY_S
            try:
                async with asyncio.timeout(wait_s):
                    await self._wakeup.wait()
            except TimeoutError:
                continue

    async def settle(self) -> None:
        """Settle the version in force, if that was not done."""
        unsettled = await asyncio.to_thread(self.versions.unsettled)
        if unsettled is None:
            return
        if not unsettled.after:
            await self._record_new_names(unsettled)
        ledger = self._dispatcher.ledger
        after: str | None = unsettled.after
        while after is not None:
            began = time.monotonic()
            after = await self._dispatcher.write(
                ledger.settle, unsettled.number, after, unsettled.work_class
            )
            self._dispatcher.wake()
            # Half of the time at most: what arrives meanwhile is decided without delay.
            await asyncio.sleep(time.monotonic() - began)

    def _stored(self, name: str) -> list[StoredProduct]:
        return list(self._list_stored(name))

    async def _record_new_names(self, unsettled: Unsettled) -> None:
        """Record what the sdb holds of products that no version before knew."""
        if unsettled.settled is None:
            return
        now = time.time()
        for name in _new_names(unsettled.settled, self.versions.current.graph):
            async for found in self._reconciler.not_recorded(self._list_stored(name), now):
                await mend(self._dispatcher, found, unsettled.work_class)


def _new_names(old: Graph, new: Graph) -> list[str]:
    return [name for name in (*new.inputs, *new.products) if not old.knows(name)]
