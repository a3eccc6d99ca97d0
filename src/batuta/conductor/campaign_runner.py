"""Planning campaigns, and moving those that run forward, while decisions go on."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from batuta.clock import now_s
from batuta.conductor.campaign_orders import ReadOrder
from batuta.conductor.database.campaigns.campaign_parts import split
from batuta.conductor.database.campaigns.campaign_planning import PlannedPage, PlanReader
from batuta.conductor.database.campaigns.campaign_rounds import CampaignRounds, Round
from batuta.conductor.database.campaigns.campaign_store import CampaignError, CampaignStore
from batuta.conductor.database.claiming.claims import ClaimStore
from batuta.conductor.database.current_graph import CurrentGraph, ReadsGraph
from batuta.conductor.database.views.campaign_views import (
    Campaign,
    CampaignPlan,
    CampaignViews,
    PlannedProduct,
    PlannedProvider,
)
from batuta.conductor.decisions.campaign_estimates import estimate, mean_s
from batuta.conductor.decisions.campaigns import CampaignOrder, CampaignState
from batuta.conductor.pruner import Write
from batuta.errors import one_line
from batuta.graph import Graph
from batuta.service.database import UNAVAILABLE
from batuta.service.operators import UNNAMED, Operator
from batuta.work_classes import WorkClass

LOG: Final = logging.getLogger(__name__)

IDLE_S: Final = 5.0
"""Without an open campaign, the database is read this often: other conductors may share it."""
OPEN_S: Final = 0.5
"""How often an open campaign is looked after that nothing was heard of, in seconds."""
TOLD_EACH_S: Final = 5.0
"""How often the progress of a campaign is told, in seconds."""
PAUSE_S: Final = 0.01
"""Between two pages of a plan: what arrives meanwhile needs the interpreter, too, in seconds."""
MAX_UNKNOWN: Final = 20
"""Unknown observations that a plan names."""


@dataclass
class _Tally:
    """What the pages of a plan add up to."""

    looked_at: int = 0
    observations: int = 0
    made: Counter[str] = field(default_factory=Counter)
    lacking: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    unknown_names: list[str] = field(default_factory=list)

    def add(self, page: PlannedPage) -> None:
        for plan, number in page.counted.items():
            self.looked_at += number
            self.observations += number if plan.products else 0
            for name in plan.products:
                self.made[name] += number
            for name in plan.lacking:
                self.lacking[name] += number
        self.unknown += len(page.unknown)
        self.unknown_names += page.unknown[: MAX_UNKNOWN - len(self.unknown_names)]


@dataclass(frozen=True)
class CampaignDatabase:
    """The campaigns in the database: orders, rounds, views, and what plans are read from."""

    store: CampaignStore
    rounds: CampaignRounds
    views: CampaignViews
    reader: Callable[[ReadOrder], PlanReader]


def open_campaigns(
    engine: sa.Engine,
    graph: Graph | CurrentGraph,
    claims: ClaimStore,
    clock: Callable[[], float] = now_s,
) -> CampaignDatabase:
    """Return the campaigns in a conductor's database."""
    return CampaignDatabase(
        store=CampaignStore(engine, clock),
        rounds=CampaignRounds(engine, graph, claims, clock),
        views=CampaignViews(engine, clock),
        reader=lambda order: PlanReader(engine, order.graph, order.target),
    )


class CampaignRunner(ReadsGraph):
    """Plans, starts and follows campaigns.

    Parameters
    ----------
    database : CampaignDatabase
        Where they are.
    graph : Graph or CurrentGraph
        The product graph, or what holds the one in force.
    write : callable
        Runs what writes, in its turn: decisions wait for one small transaction at most.
    on_claimed : callable
        Called once there are processings to request.
    on_news : callable
        Told how a campaign is, when its state changes and now and then while it runs.
    news : asyncio.Event
        Set where a processing of a campaign has ended.
    """

    def __init__(
        self,
        database: CampaignDatabase,
        graph: Graph | CurrentGraph,
        write: Write,
        on_claimed: Callable[[], None],
        on_news: Callable[[Campaign], None],
        news: asyncio.Event,
    ) -> None:
        super().__init__(graph)
        self.views = database.views
        self._store = database.store
        self._rounds = database.rounds
        self._reader = database.reader
        self._write = write
        self._on_claimed = on_claimed
        self._on_news = on_news
        self._wakeup = news
        self._told: dict[int, tuple[CampaignState, int, float]] = {}
        self.settle_holds: Callable[[], Awaitable[None]] = _nothing
        """Waits until what pauses keep back, or let go, is."""

    def wake(self) -> None:
        """Look after the open campaigns now."""
        self._wakeup.set()

    # ------------------------------------------------------------------ orders

    @property
    def graph(self) -> Graph:
        """The graph in force."""
        return self._graph

    async def plan(self, order: ReadOrder, by: Operator = UNNAMED) -> Campaign:
        """Plan a campaign; nothing else is changed.

        Raises
        ------
        CampaignError
            If it was cancelled meanwhile.
        """
        number = await self._write(self._store.begin_plan, order.values, by)
        plan = await self._read_plan(number, order)
        await self._still_wanted(
            number, self._store.end_plan, plan.model_dump(mode="json"), plan.processings
        )
        return await self._tell(number)

    async def _still_wanted(self, number: int, work: Callable[..., bool], *args: object) -> None:
        # What a defect interrupts is found by its silence, as what a kill interrupts.
        if not await self._write(work, number, *args):
            raise CampaignError(f"campaign {number} was cancelled while it was planned")

    async def order(
        self,
        number: int,
        order: CampaignOrder,
        reason: str | None = None,
        by: Operator = UNNAMED,
    ) -> Campaign:
        """Start, pause, resume or cancel a campaign.

        Raises
        ------
        KeyError
            If there is none of that number.
        CampaignError
            If it cannot be ordered now.
        """
        await self._write(self._store.order, number, order, self.graph.digest, reason, by)
        if order in (CampaignOrder.PAUSE, CampaignOrder.RESUME):
            await self.settle_holds()
        await self._advance(number)
        self.wake()
        if order is CampaignOrder.RESUME:
            self._on_claimed()
        return await self._tell(number)

    async def _read_plan(self, number: int, order: ReadOrder) -> CampaignPlan:
        tally = _Tally()
        pages = self._reader(order).pages()
        while (page := await asyncio.to_thread(_next, pages)) is not None:
            tally.add(page)
            parts = await asyncio.to_thread(
                lambda some: list(split(some.planned, dropped=some.dropped)), page
            )
            await self._still_wanted(number, self._store.add_parts, parts)
            await asyncio.sleep(PAUSE_S)
        past = await asyncio.to_thread(self.views.past, list(tally.made))
        expected = estimate(
            order.graph,
            tally.made,
            past,
            WorkClass(order.values["work_class"]),
            order.values["max_concurrent"],
        )
        products = [
            name
            for level in order.graph.levels()
            for name in level
            if name in tally.made or name in tally.lacking
        ]
        of_provider: Counter[str] = Counter()
        for name, times in tally.made.items():
            of_provider[order.graph.products[name].provider] += times
        return CampaignPlan(
            looked_at=tally.looked_at,
            observations=tally.observations,
            processings=tally.made.total(),
            products=[
                PlannedProduct(
                    product=name,
                    provider=order.graph.products[name].provider,
                    processings=tally.made[name],
                    lacking=tally.lacking[name],
                    mean_s=mean_s(past.get(name, ())),
                    approval=order.graph.products[name].approval,
                )
                for name in products
            ],
            providers=[
                PlannedProvider(provider=name, processings=times, at_once=expected.at_once[name])
                for name, times in of_provider.items()
            ],
            estimate_s=expected.seconds,
            without_record=list(expected.without_record),
            unknown=tally.unknown,
            unknown_names=tally.unknown_names,
        )

    # ------------------------------------------------------------------ following

    async def run(self) -> None:
        """Move the open campaigns forward until cancelled."""
        while True:
            self._wakeup.clear()
            began = time.monotonic()
            wait_s = IDLE_S
            try:
                for row in await asyncio.to_thread(self._store.open_campaigns):
                    if self._store.is_interrupted(row):
                        reason = "its planning was interrupted: plan it again"
                        await self._write(self._store.abandon_plan, row.number, reason)
                    elif await self._advance(row.number):
                        wait_s = 0.0
                    wait_s = min(wait_s, OPEN_S)
            except UNAVAILABLE as exc:
                LOG.warning("campaigns: %s; looked after later", one_line(exc))
            # Half of the time at most: what arrives meanwhile is decided without delay.
            await asyncio.sleep(time.monotonic() - began)
            await self._sleep(wait_s)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wakeup.wait()
        except TimeoutError:
            return

    async def _advance(self, number: int) -> bool:
        """Do a round of a campaign; return whether there may be more to do at once."""
        ended = await asyncio.to_thread(self._rounds.ended_items, number)
        done: Round = await self._write(self._rounds.advance, number, ended)
        if done.claimed:
            self._on_claimed()
        if done.complete:
            report = await asyncio.to_thread(self.views.make_report, number)
            await self._write(self._rounds.end, number, report)
        if done.complete or done.changed:
            await self._tell(number, now_and_then=True)
        return done.changed

    async def _tell(self, number: int, *, now_and_then: bool = False) -> Campaign:
        """Publish the status of a campaign and return it.

        With `now_and_then`, only if its state has changed or `TOLD_EACH_S` have passed since.
        """
        state, _, told_at = self._told.get(number, (None, 0, 0.0))
        campaign = await asyncio.to_thread(self._find, number)
        recent = time.monotonic() < told_at + TOLD_EACH_S
        if not (now_and_then and campaign.state is state and recent):
            self._told[number] = (campaign.state, campaign.progress.done, time.monotonic())
            self._on_news(campaign)
        if campaign.state.ended:
            self._told.pop(number, None)
        return campaign

    def _find(self, number: int) -> Campaign:
        found = self.views.find(number)
        if found is None:
            raise KeyError(number)
        return found


async def _nothing() -> None:
    pass


def _next(pages: Iterator[PlannedPage]) -> PlannedPage | None:
    return next(pages, None)
