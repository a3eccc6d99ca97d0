"""The conductor's records against what the sdb holds: how they differ, and mending that.

They differ once an sdb has been restored from a backup, has lost a disk, or has been replaced; or
once announcements were lost with their stream.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.current_graph import CurrentGraph, ReadsGraph
from batuta.conductor.database.records import Row, record_of
from batuta.conductor.database.retention.dropped import (
    DroppedObservation,
    DroppedVersion,
    read_dropped,
    read_dropped_after,
)
from batuta.conductor.database.schema import LISTED, approvals, available
from batuta.conductor.database.schema import processings as table
from batuta.conductor.decisions.differences import Difference, DifferenceKind
from batuta.conductor.decisions.events import Archived
from batuta.conductor.decisions.rules import Arrival
from batuta.conductor.dispatch.archive import Archive
from batuta.conductor.dispatch.dispatcher import Dispatcher
from batuta.graph import Graph
from batuta.messaging import DataAvailable
from batuta.messaging import ProcessingState as State
from batuta.sdb.lookup import ArchivedVersion
from batuta.sdb.records import StoredProduct
from batuta.service.database import reading
from batuta.stages import FINAL_RANK, rank_of
from batuta.work_classes import WorkClass

BATCH: Final = 500
DROPPED_PAGE: Final = 20
"""Observations, of all of whose products the sdb is asked at once."""
ANNOUNCED_WITHIN_S: Final = 60.0
"""How long an announcement may be on its way, in seconds, clocks apart included."""
SECOND_LOOK_S: Final = 2.0
"""After so long most announcements that are on their way have arrived, in seconds."""


class Reconciler(ReadsGraph):
    """Compares the conductor's records with the sdb, in batches.

    Parameters
    ----------
    engine : sa.Engine
        The conductor's database, which is only read here.
    graph : Graph or CurrentGraph
        The product graph, or what holds the one in force: what it does not know is ignored.
    archive : Archive
        The sdb, asked about what is recorded.
    list_newest : callable
        Returns the newest version of each product that the sdb holds; raises `ServiceError`.
    """

    def __init__(
        self,
        engine: sa.Engine,
        graph: Graph | CurrentGraph,
        archive: Archive,
        list_newest: Callable[[], Iterable[StoredProduct]],
    ) -> None:
        super().__init__(graph)
        self._engine = engine
        self._archive = archive
        self._list_newest = list_newest

    async def differences(self, before: float) -> AsyncIterator[list[Difference]]:
        """Yield the differences, in the order in which they are to be mended.

        Parameters
        ----------
        before : float
            A time, in seconds since 1970: what was recorded later is left out. The sdb may have
            answered before it was archived.

        Raises
        ------
        ServiceError
            If the sdb does not answer.
        """
        async for batch in self._not_archived(before):
            yield batch
        async for batch in self._not_made(before):
            yield batch
        async for batch in self.not_recorded(await asyncio.to_thread(self._list_newest), before):
            yield batch

    async def difference_of(self, product: str, obs_id: str) -> Difference | None:
        """Return how one product differs, whoever announced it; None if it does not.

        Raises
        ------
        KeyError
            If the conductor has recorded no version of it.
        ServiceError
            If the sdb does not answer.
        """
        recorded = (await asyncio.to_thread(self._recorded, [(obs_id, product)]))[obs_id, product]
        (held,) = await self._archive.newest([(product, obs_id)])
        if held is not None and held.version == recorded.version:
            return None
        return Difference(
            kind=DifferenceKind.NOT_ARCHIVED,
            product=product,
            obs_id=obs_id,
            recorded=recorded.version,
            **_held(held),
        )

    async def _not_archived(self, before: float) -> AsyncIterator[list[Difference]]:
        after = ("", "")
        while rows := await asyncio.to_thread(self._available_after, after, before):
            after = (rows[-1].obs_id, rows[-1].product)
            yield await self._lost([_Recorded.of(row.product, row.obs_id, row) for row in rows])
        # What was dropped is believed as much as what is there: the sdb may have lost it, too.
        page = ""
        while kept := await asyncio.to_thread(self._dropped_after, page):
            page = kept[-1].obs_id
            yield await self._lost(
                [
                    _Recorded.of(name, each.obs_id, known)
                    for each in kept
                    for name, known in each.versions.items()
                    if known.archived or name in self._graph.products
                ]
            )

    async def _lost(self, recorded: Sequence["_Recorded"]) -> list[Difference]:
        """Return which of the recorded versions the sdb lacks."""
        held = await self._archive.newest([(each.product, each.obs_id) for each in recorded])
        lost = [
            Difference(
                kind=DifferenceKind.NOT_ARCHIVED,
                product=each.product,
                obs_id=each.obs_id,
                recorded=each.version,
                **_held(found),
            )
            for each, found in zip(recorded, held, strict=True)
            if found is None or each.is_above(found)
        ]
        return await self._tell_withdrawn(lost)

    async def _tell_withdrawn(self, lost: Sequence[Difference]) -> list[Difference]:
        """Return the differences, those told apart whose recorded version was withdrawn."""
        found = await self._archive.find(
            [
                DataAvailable(
                    product=each.product, obs_id=each.obs_id, version=each.recorded or None
                )
                for each in lost
            ]
        )
        return [
            each
            if version is None or version.withdrawn is None or version.version != each.recorded
            else each.model_copy(
                update={"kind": DifferenceKind.WITHDRAWN, "reason": version.withdrawn_reason}
            )
            for each, version in zip(lost, found, strict=True)
        ]

    async def withdrawn(self, versions: Sequence[ArchivedVersion]) -> list[Difference]:
        """Return what is to be mended because versions were withdrawn in the sdb.

        Raises
        ------
        ServiceError
            If the sdb does not answer.
        """
        left = await self._archive.newest([(each.product, each.obs_id) for each in versions])
        made = [each for each in versions if each.processing_id is not None]
        since = await self._archive.imported_by(
            [(each.product, each.processing_id or "") for each in made]
        )
        # A processing that was run again has made another version since.
        current = {each for each, newer in zip(made, since, strict=True) if newer is None}
        return [
            Difference(
                kind=DifferenceKind.WITHDRAWN,
                product=each.product,
                obs_id=each.obs_id,
                recorded=each.version,
                **_held(newest),
                processing_id=each.processing_id if each in current else None,
                provider=each.provider,
                reason=each.withdrawn_reason,
            )
            for each, newest in zip(versions, left, strict=True)
        ]

    async def _not_made(self, before: float) -> AsyncIterator[list[Difference]]:
        after = (0.0, "")
        while rows := await asyncio.to_thread(self._succeeded_after, after, before):
            after = (rows[-1].created, rows[-1].id)
            records = [record_of(row) for row in rows]
            held = await self._archive.holds_products_of(records)
            imported = await self._archive.imported_by(
                [(record.product, record.id) for record in records], withdrawn=True
            )
            # What was withdrawn was made: that it is not to be used is another difference.
            withdrawn = [each for each in imported if each is not None and each.withdrawn]
            if withdrawn:
                yield await self.withdrawn(withdrawn)
            told = {each.processing_id for each in withdrawn}
            yield [
                Difference(
                    kind=DifferenceKind.NOT_MADE,
                    product=record.product,
                    obs_id=record.obs_id,
                    processing_id=record.id,
                    provider=record.provider,
                )
                for record, is_held in zip(records, held, strict=True)
                if not is_held and record.id not in told
            ]

    async def not_recorded(
        self, newest: Iterable[StoredProduct], before: float
    ) -> AsyncIterator[list[Difference]]:
        """Yield which of the versions that the sdb holds are not recorded; `before`: see above."""
        stored = iter(newest)
        while versions := await asyncio.to_thread(lambda: list(islice(stored, BATCH))):
            known = [each for each in versions if self._graph.knows(each.product)]
            found = await self._newer_than_recorded(known)
            if any(each.created.timestamp() > before - ANNOUNCED_WITHIN_S for each, _ in found):
                await wait_for_announcements()
                found = await self._newer_than_recorded([each for each, _ in found])
            yield [
                Difference(
                    kind=DifferenceKind.NOT_RECORDED,
                    product=each.product,
                    obs_id=each.obs_id,
                    recorded=known.version if known is not None else None,
                    **_held(each),
                    processing_id=each.processing_id,
                    provider=each.provider,
                )
                for each, known in found
            ]

    async def _newer_than_recorded(
        self, versions: Sequence[StoredProduct]
    ) -> list[tuple[StoredProduct, "_Recorded | None"]]:
        """Return the versions that are newer than the recorded ones, with those."""
        instances = [(each.obs_id, each.product) for each in versions]
        recorded = await asyncio.to_thread(self._recorded, instances)
        known = [recorded.get(instance) for instance in instances]
        asked = await asyncio.to_thread(self._asked, instances)
        return [
            (each, one)
            for each, one in zip(versions, known, strict=True)
            if (one is None or one.is_below(each))
            and each.version > asked.get((each.obs_id, each.product), 0)
        ]

    def _asked(self, instances: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """Return the newest version about which a person is, or was, asked."""
        observations = {obs_id for obs_id, product in instances if product in self._graph.asking}
        if not observations:
            return {}
        query = sa.select(approvals.c.obs_id, approvals.c.product, approvals.c.version)
        query = query.where(approvals.c.obs_id.in_(observations))
        with reading(self._engine) as connection:
            rows = sorted(connection.execute(query), key=lambda row: int(row.version))
        return {(row.obs_id, row.product): row.version for row in rows}

    def _available_after(self, after: tuple[str, str], before: float) -> Sequence[Row]:
        key = sa.tuple_(available.c.obs_id, available.c.product)
        query = (
            sa.select(available)
            .where(
                # What the graph makes is archived, also where it was recorded without saying so.
                sa.or_(available.c.archived, available.c.product.in_(self._graph.products)),
                available.c.heard < before,
                key > after,
            )
            .order_by(available.c.obs_id, available.c.product)
            .limit(BATCH)
        )
        with reading(self._engine) as connection:
            return list(connection.execute(query))

    def _dropped_after(self, after: str) -> list[DroppedObservation]:
        with reading(self._engine) as connection:
            return read_dropped_after(connection, after, DROPPED_PAGE)

    def _succeeded_after(self, after: tuple[float, str], before: float) -> Sequence[Row]:
        # In the order of the index of states, so that a batch is read, and nothing sorted.
        key = sa.tuple_(table.c.created, table.c.id)
        query = (
            sa.select(table)
            .where(sa.text(LISTED), table.c.state == State.SUCCEEDED)
            .where(key > after, table.c.ended < before)
            .order_by(table.c.created, table.c.id)
            .limit(BATCH)
        )
        with reading(self._engine) as connection:
            return list(connection.execute(query))

    def _recorded(self, instances: Sequence[tuple[str, str]]) -> "dict[tuple[str, str], _Recorded]":
        wanted = set(instances)
        query = sa.select(available).where(available.c.obs_id.in_({obs_id for obs_id, _ in wanted}))
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
            kept = read_dropped(connection, {obs_id for obs_id, _ in wanted})
        found = {
            (row.obs_id, row.product): _Recorded.of(row.product, row.obs_id, row) for row in rows
        }
        for each in kept.values():
            found |= {
                (each.obs_id, name): _Recorded.of(name, each.obs_id, known)
                for name, known in each.versions.items()
            }
        return {instance: known for instance, known in found.items() if instance in wanted}


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A version that the conductor takes for the newest one; `rank` is that of its stage."""

    product: str
    obs_id: str
    version: int
    rank: int

    @classmethod
    def of(cls, product: str, obs_id: str, known: Row | DroppedVersion) -> "_Recorded":
        rank = FINAL_RANK if known.stage is None else known.stage
        return cls(product, obs_id, known.version, rank)

    def is_above(self, held: ArchivedVersion) -> bool:
        """Return whether the sdb, whose newest version is `held`, must have lost this one."""
        return self.version != held.version and self._order > _order(held)

    def is_below(self, held: StoredProduct) -> bool:
        """Return whether `held` is newer.

        The same version may be of a lower stage here: its import told none, but that from which it
        was made was preliminary.
        """
        return self.version != held.version and self._order < _order(held)

    @property
    def _order(self) -> tuple[int, int]:
        return (self.rank, self.version)


def _order(held: ArchivedVersion | StoredProduct) -> tuple[int, int]:
    return (rank_of(held.stage), held.version)


def _held(found: ArchivedVersion | StoredProduct | None) -> dict[str, Any]:
    """Return what a difference says of the newest version that the sdb holds."""
    if found is None:
        return {}
    return {
        "archived": found.version,
        "archived_by": found.processing_id,
        "stage": found.stage,
    }


async def wait_for_announcements() -> None:
    """Let what the sdb has announced arrive: what is on its way is no difference."""
    await asyncio.sleep(SECOND_LOOK_S)


async def mend(
    dispatcher: Dispatcher,
    differences: Sequence[Difference],
    told_class: WorkClass | None = None,
) -> None:
    """Make the conductor's records agree with the sdb, and make again what was lost.

    `told_class` is the class of what is made of versions that were not recorded.
    """
    lost = [each for each in differences if each.kind is not DifferenceKind.NOT_RECORDED]
    if lost:
        dispatcher.stop(await dispatcher.write(dispatcher.ledger.operations.correct, lost))
    found = [each for each in differences if each.kind is DifferenceKind.NOT_RECORDED]
    if found:
        await dispatcher.on_data(
            [
                Arrival(
                    each.product,
                    each.obs_id,
                    each.archived or 0,
                    archived=True,
                    told_class=told_class,
                    stage=None if each.stage is None else rank_of(each.stage),
                )
                for each in found
            ],
            [
                Archived(
                    processing_id=each.processing_id or "",
                    product=each.product,
                    obs_id=each.obs_id,
                    provider=each.provider,
                    version=each.archived or 0,
                )
                for each in found
            ],
        )
    dispatcher.wake()
