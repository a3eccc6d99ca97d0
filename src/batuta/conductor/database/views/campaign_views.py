"""Campaigns as REST shows them: plans, progress, reports."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field

from batuta.clock import now_s
from batuta.conductor.database.campaign_schema import (
    OPEN_CAMPAIGN,
    campaigns,
    counts,
    items,
    parts,
)
from batuta.conductor.database.campaigns.campaign_parts import contents_of
from batuta.conductor.database.campaigns.unapproved_items import count_unapproved
from batuta.conductor.database.records import Row
from batuta.conductor.database.schema import LISTED
from batuta.conductor.database.schema import processings as table
from batuta.conductor.decisions.campaign_estimates import Interval, remaining_s
from batuta.conductor.decisions.campaigns import CampaignScope, CampaignState, ItemState
from batuta.graph import Approval
from batuta.messaging import ProcessingState as State
from batuta.messaging.processings import instant_of
from batuta.service.database import reading
from batuta.service.listing import Listing, equals_unindexed
from batuta.service.pagination import Page
from batuta.work_classes import WorkClass

RECORD: Final = 200
"""Past processings of a product that its time is estimated from, the newest."""
MAX_REASONS: Final = 200
"""Different reasons that a report tells, those of the most items first."""


class Selection(BaseModel):
    """What a campaign is about, as it was ordered; of observations by name, only their number.

    `products` are those of the graph that it stands for; `patterns` and `names` are of
    observations.
    """

    products: list[str]
    scope: CampaignScope
    downstream: bool = False
    new_graph: bool = False
    patterns: list[str] = []
    names: int | None = None
    since: datetime | None = None
    until: datetime | None = None


class PlannedProduct(BaseModel):
    """What a campaign makes of a product.

    `lacking` is of how many observations it cannot be made, `mean_s` how long it took on average,
    in seconds; None if no processing has made it yet. `approval` is ``before`` or ``after`` where
    each waits for a person.
    """

    product: str
    provider: str
    processings: int
    lacking: int
    mean_s: float | None
    approval: Approval | None = None


class PlannedProvider(BaseModel):
    """What a campaign requests of a provider, and how many at once as far as is known."""

    provider: str
    processings: int
    at_once: int


class CampaignPlan(BaseModel):
    """What a campaign will make.

    `looked_at` are the observations that were selected, `observations` those of which something is
    made; `unknown` were given by name, and nothing is recorded of them: their number, and some.
    `estimate_s` is how long it takes if nothing else is made meanwhile, in seconds, without the
    products `without_record`; None if nothing tells.
    """

    looked_at: int
    observations: int
    processings: int
    products: list[PlannedProduct]
    providers: list[PlannedProvider]
    estimate_s: float | None
    without_record: list[str]
    unknown: int = 0
    unknown_names: list[str] = []


class Progress(BaseModel):
    """How far a campaign is: of `total` processings, how many have ended, and how.

    `open` are requested, or wait to be; `unapproved` those of them that wait for a person, and take
    no place of what is made at a time; `awaiting` wait until what they are made from, and others
    are making, is there.
    """

    total: int
    done: int
    made: int
    failed: int
    skipped: int
    cancelled: int
    open: int
    awaiting: int = 0
    unapproved: int = 0


class Campaign(BaseModel):
    """A campaign: reprocessing or backfill of many observations.

    `ran_s` is how long it has run, in seconds, without pauses; `estimated_end` is when it ends if
    it goes on as it does; None while some of it waits for a person.
    """

    model_config = ConfigDict(populate_by_name=True)

    number: int
    name: str | None
    state: CampaignState
    reason: str | None
    selection: Selection
    graph: str
    work_class: WorkClass = Field(alias="class")
    priority: int | None
    max_concurrent: int
    plan: CampaignPlan | None
    progress: Progress
    created: datetime
    started: datetime | None
    ended: datetime | None
    ran_s: float
    estimated_end: datetime | None


class Reason(BaseModel):
    """Why products were not made, of how many observations, and one of them."""

    state: ItemState
    reason: str
    number: int
    example: str


class ProductReport(BaseModel):
    """What became of a product; `not_begun` was planned, and the campaign was cancelled before."""

    product: str
    provider: str
    planned: int
    made: int
    failed: int
    skipped: int
    cancelled: int
    not_begun: int
    reasons: list[Reason]


class CampaignReport(BaseModel):
    """What a campaign has made, and why not all; `ran_s` without pauses, in seconds."""

    number: int
    name: str | None
    state: CampaignState
    reason: str | None
    started: datetime | None
    ended: datetime
    ran_s: float
    estimate_s: float | None
    progress: Progress
    products: list[ProductReport]


class CampaignItem(BaseModel):
    """A product of an observation that a campaign has begun, and that was not made."""

    obs_id: str
    product: str
    state: ItemState
    reason: str | None
    processing: str | None
    at: datetime


class CampaignMention(BaseModel):
    """A campaign that is to make a product, or has not made it, as `why` tells it.

    `item` is None of what is planned and has not begun.
    """

    number: int
    name: str | None
    state: CampaignState
    item: ItemState | None
    reason: str | None
    at: datetime | None

    def words(self) -> str:
        """Say it in one line, for people."""
        named = f" ({self.name})" if self.name else ""
        what = "is planned to make it" if self.item is None else _ITEM_WORDS[self.item]
        reason = f": {self.reason}" if self.reason else ""
        return f"campaign {self.number}{named}, {self.state}: {what}{reason}"


_ITEM_WORDS: Final = {
    ItemState.BLOCKED: "makes it after what it is made from, which it makes first",
    ItemState.READY: "makes it next, once it has a place",
    ItemState.AWAITING: "makes it after what it is made from, which others are making",
    ItemState.OPEN: "is making it",
    ItemState.MADE: "made it",
    ItemState.FAILED: "failed to make it",
    ItemState.SKIPPED: "skipped it",
    ItemState.CANCELLED: "was to make it, which was cancelled",
}


class CampaignViews:
    """Reads campaigns; never writes.

    Parameters
    ----------
    engine : sa.Engine
        The conductor's database.
    clock : callable
        Returns the time, in seconds since 1970.
    """

    def __init__(self, engine: sa.Engine, clock: Callable[[], float] = now_s) -> None:
        self._engine = engine
        self._clock = clock

    def find(self, number: int) -> Campaign | None:
        """Return a campaign; None if there is none of that number."""
        with reading(self._engine) as connection:
            row = connection.execute(_of(number)).one_or_none()
            return None if row is None else self._view(row, _counted(connection, [number]))

    def page(self, state: CampaignState | None, limit: int, after: int | None) -> Page[Campaign]:
        """Return a page of campaigns, the newest first, that begins after a number."""
        listing = Listing(
            query=sa.select(campaigns),
            key=[campaigns.c.number],
            descending=True,
            checked=[] if state is None else [equals_unindexed(campaigns.c.state, state)],
        )
        with reading(self._engine) as connection:
            rows, following = listing.page(connection, limit, None if after is None else (after,))
            counted = _counted(connection, [row.number for row in rows])
        following_cursor = None if following is None else str(following[0])
        return Page(items=[self._view(row, counted) for row in rows], next=following_cursor)

    def open_campaigns(self) -> list[Campaign]:
        """Return the campaigns that have not ended, the oldest first."""
        query = sa.select(campaigns).where(sa.text(OPEN_CAMPAIGN)).order_by(campaigns.c.number)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
            counted = _counted(connection, [row.number for row in rows])
        return [self._view(row, counted) for row in rows]

    def report(self, number: int) -> CampaignReport | CampaignState:
        """Return the report of a campaign; its state, if it has none.

        Raises
        ------
        KeyError
            If there is none of that number.
        """
        with reading(self._engine) as connection:
            row = connection.execute(_of(number)).one_or_none()
            if row is None:
                raise KeyError(number)
            counted = _counted(connection, [number])
        if row.report is None or row.ended is None:
            return CampaignState(row.state)
        plan = None if row.plan is None else CampaignPlan(**row.plan)
        return CampaignReport(
            number=number,
            name=row.name,
            state=row.state,
            reason=row.reason,
            started=_time(row.started),
            ended=instant_of(row.ended),
            ran_s=row.ran_s,
            estimate_s=None if plan is None else plan.estimate_s,
            progress=_progress(row, counted),
            products=_product_reports(plan, counted.get(number, {}), row.report["reasons"]),
        )

    def make_report(self, number: int) -> dict[str, Any]:
        """Return why items were not made: what is kept once a campaign has ended."""
        number_of = sa.func.count().label("number")
        query = (
            sa.select(
                items.c.product,
                items.c.state,
                items.c.reason,
                number_of,
                sa.func.min(items.c.obs_id).label("example"),
            )
            .where(items.c.campaign == number)
            .group_by(items.c.product, items.c.state, items.c.reason)
            .order_by(number_of.desc())
            .limit(MAX_REASONS)
        )
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return {"reasons": [{**row._mapping, "reason": row.reason or row.state} for row in rows]}

    def items(
        self, number: int, state: ItemState, limit: int, cursor: str | None
    ) -> Page[CampaignItem]:
        """Return a page of a campaign's items of a state, in the order of observations.

        Raises
        ------
        ValueError
            If `cursor` is none that a page had.
        """
        after = None
        if cursor is not None:
            obs_id, slash, product = cursor.partition("/")  # no name has a slash
            if not slash:
                raise ValueError(cursor)
            after = (obs_id, product)
        listing = Listing(
            query=sa.select(items),
            key=[items.c.obs_id, items.c.product],
            selected=[items.c.campaign == number, items.c.state == state],
        )
        with reading(self._engine) as connection:
            rows, following = listing.page(connection, limit, after)
        return Page(
            items=[
                CampaignItem(
                    obs_id=row.obs_id,
                    product=row.product,
                    state=row.state,
                    reason=row.reason,
                    processing=row.processing_id,
                    at=instant_of(row.at),
                )
                for row in rows
            ],
            next=None if following is None else "/".join(following),
        )

    def mentions(self, product: str, obs_id: str) -> list[CampaignMention]:
        """Return the campaigns that are to make a product, or did not, the oldest first."""
        begun = (
            sa.select(items, campaigns.c.name, campaigns.c.state.label("campaign_state"))
            .join(campaigns, campaigns.c.number == items.c.campaign)
            .where(items.c.obs_id == obs_id, items.c.product == product)
        )
        with reading(self._engine) as connection:
            found = [
                CampaignMention(
                    number=row.campaign,
                    name=row.name,
                    state=row.campaign_state,
                    item=row.state,
                    reason=row.reason,
                    at=instant_of(row.at),
                )
                for row in connection.execute(begun)
            ]
            open_ = connection.execute(sa.select(campaigns).where(sa.text(OPEN_CAMPAIGN)))
            found += [
                CampaignMention(
                    number=row.number,
                    name=row.name,
                    state=row.state,
                    item=None,
                    reason=None,
                    at=None,
                )
                for row in open_.all()
                if product in _planned_of(connection, row.number, obs_id)
            ]
        return sorted(found, key=lambda each: each.number)

    def past(self, products: Sequence[str]) -> dict[str, list[Interval]]:
        """Return when processings of products were requested and ended that have succeeded."""
        found = {}
        with reading(self._engine) as connection:
            for name in products:
                query = (
                    sa.select(table.c.requested, table.c.ended, table.c.state)
                    .where(sa.text(LISTED), table.c.product == name)
                    .order_by(table.c.product.desc(), table.c.created.desc(), table.c.id.desc())
                    .limit(RECORD)
                )
                found[name] = [
                    (row.requested, row.ended)
                    for row in connection.execute(query)
                    if row.state == State.SUCCEEDED and row.requested and row.ended
                ]
        return found

    def _view(self, row: Row, counted: "Counted") -> Campaign:
        plan = None if row.plan is None else CampaignPlan(**row.plan)
        progress = _progress(row, counted)
        now = self._clock()
        ran_s = row.ran_s + (max(0.0, now - row.running_since) if row.running_since else 0.0)
        left_s = None
        if row.state == CampaignState.RUNNING and not progress.unapproved:
            planned_s = None if plan is None else plan.estimate_s
            left_s = remaining_s(progress.done, row.total, ran_s, planned_s)
        return Campaign(
            number=row.number,
            name=row.name,
            state=row.state,
            reason=row.reason,
            selection=Selection(**row.selection),
            graph=row.graph,
            work_class=WorkClass(row.work_class),
            priority=row.priority,
            max_concurrent=row.max_concurrent,
            plan=plan,
            progress=progress,
            created=instant_of(row.created),
            started=_time(row.started),
            ended=_time(row.ended),
            ran_s=ran_s,
            estimated_end=None if left_s is None else _time(now + left_s),
        )


Counted = Mapping[int, Mapping[tuple[str, str], int]]
"""Items of campaigns, by product and state; of what is open, how many are unapproved, too."""


def _of(number: int) -> "sa.Select[Any]":
    return sa.select(campaigns).where(campaigns.c.number == number)


def _counted(connection: sa.Connection, numbers: Sequence[int]) -> Counted:
    found: dict[int, dict[tuple[str, str], int]] = {number: {} for number in numbers}
    if not numbers:
        return found
    for row in connection.execute(sa.select(counts).where(counts.c.campaign.in_(numbers))):
        found[row.campaign][row.product, row.state] = row.number
    # What is open is counted as it is: few, and it changes.
    open_ = (
        sa.select(items.c.campaign, items.c.state, sa.func.count().label("number"))
        .where(
            items.c.campaign.in_(numbers),
            items.c.state.in_([ItemState.OPEN, ItemState.AWAITING]),
        )
        .group_by(items.c.campaign, items.c.state)
    )
    for row in connection.execute(open_).all():
        found[row.campaign]["", row.state] = row.number
        if row.state == ItemState.OPEN:
            unapproved = count_unapproved(connection, row.campaign)
            found[row.campaign]["", State.UNAPPROVED] = unapproved
    return found


def _progress(row: Row, counted: Counted) -> Progress:
    numbers = dict.fromkeys(ItemState, 0)
    of_campaign = counted.get(row.number, {})
    for (_, state), number in of_campaign.items():
        if state != State.UNAPPROVED:
            numbers[ItemState(state)] += number
    ends = {each.value: numbers[each] for each in ItemState if each.settled}
    return Progress(
        total=row.total,
        done=sum(ends.values()),
        open=numbers[ItemState.OPEN],
        awaiting=numbers[ItemState.AWAITING],
        unapproved=of_campaign.get(("", State.UNAPPROVED), 0),
        **ends,
    )


def _product_reports(
    plan: CampaignPlan | None,
    counted: Mapping[tuple[str, str], int],
    reasons: Sequence[Mapping[str, Any]],
) -> list[ProductReport]:
    found = []
    for each in plan.products if plan is not None else ():
        ends = {
            state.value: counted.get((each.product, state), 0)
            for state in ItemState
            if state.settled
        }
        found.append(
            ProductReport(
                product=each.product,
                provider=each.provider,
                planned=each.processings,
                not_begun=each.processings - sum(ends.values()),
                reasons=[
                    Reason(**{name: reason[name] for name in Reason.model_fields})
                    for reason in reasons
                    if reason["product"] == each.product
                ],
                **ends,
            )
        )
    return found


def _planned_of(connection: sa.Connection, number: int, obs_id: str) -> Sequence[str]:
    """Return what a campaign has planned of an observation, and not begun."""
    for dropped in (False, True):
        row = connection.execute(
            sa.select(parts)
            .where(parts.c.campaign == number, parts.c.dropped == dropped, parts.c.first <= obs_id)
            .order_by(parts.c.first.desc())
            .limit(1)
        ).one_or_none()
        if row is not None:
            return contents_of(row.content).get(obs_id, ())
    return ()


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else instant_of(seconds)
