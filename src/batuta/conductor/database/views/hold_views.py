"""Holds as REST shows them: what they keep back, and what a release would start."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field

from batuta.conductor.database.campaign_schema import campaigns
from batuta.conductor.database.holds.hold_store import HoldStore
from batuta.conductor.database.records import Row
from batuta.conductor.database.schema import HELD, UNAPPROVED
from batuta.conductor.database.schema import processings as table
from batuta.conductor.decisions.campaigns import CampaignState
from batuta.conductor.decisions.holds import HeldGroup, Hold, HoldState, kept_back, would_start
from batuta.messaging.processings import instant_of
from batuta.service.database import one_moment, reading
from batuta.work_classes import WorkClass


class HoldView(BaseModel):
    """What an operator holds: all work that has the values that are not null.

    `pause` tells that it is the pause of its campaign: it ends as that is resumed.

    `state` is ``scheduled``, ``in force``, ``releasing`` or ``released``. `since` is when it
    begins, or has begun. `keeps` counts the processings that it keeps back, whatever else does;
    `alone` those of them that nothing else does, `unapproved` those that a person has not approved
    yet. `rate` is how fast they are let go.
    """

    model_config = ConfigDict(populate_by_name=True)

    number: int
    provider: str | None
    product: str | None
    obs_id: str | None
    work_class: WorkClass | None = Field(alias="class")
    campaign: int | None
    pause: bool
    what: str
    state: HoldState
    since: datetime
    placed: datetime
    by: str
    reason: str | None
    keeps: int
    alone: int
    unapproved: int
    released: datetime | None
    released_by: str | None
    release_reason: str | None
    rate: str | None
    ended: datetime | None


class ReleasePreview(BaseModel):
    """What would start if a hold were released: how many processings, and of what.

    `remains` counts what it covers besides and another hold keeps back, `unapproved` what waits for
    a person's approval.
    """

    hold: HoldView
    starts: int
    products: dict[str, int]
    providers: dict[str, int]
    classes: dict[str, int]
    remains: int
    unapproved: int


class HoldViews:
    """Reads what is held; never writes.

    Parameters
    ----------
    engine : sa.Engine
        The conductor's database.
    store : HoldStore
        The holds.
    """

    def __init__(self, engine: sa.Engine, store: HoldStore) -> None:
        self._engine = engine
        self._store = store

    def all(self) -> list[HoldView]:
        """Return the holds that have not ended, the earliest first."""
        with one_moment(self._engine):
            holds = self._store.open_holds()
            groups = self._groups(holds)
        return [self._view(each, groups, holds) for each in holds]

    def find(self, number: int) -> HoldView | None:
        """Return one hold, ended or not; None if there is none of that number."""
        with one_moment(self._engine):
            hold = self._store.find(number)
            if hold is None:
                return None
            holds = self._store.open_holds()
            groups = self._groups(holds)
        return self._view(hold, groups, holds)

    def preview(self, number: int) -> ReleasePreview | None:
        """Return what the release of a hold would start; None if none of that number is open."""
        with one_moment(self._engine):
            holds = self._store.open_holds()
            hold = next((each for each in holds if each.number == number), None)
            if hold is None:
                return None
            groups = self._groups(holds)
        view = self._view(hold, groups, holds)
        starting = would_start(hold, groups, holds, self._store.now())
        return ReleasePreview(
            hold=view,
            starts=view.alone,
            products=_counted(starting, "product"),
            providers=_counted(starting, "provider"),
            classes=_counted(starting, "work_class"),
            remains=view.keeps - view.alone - view.unapproved,
            unapproved=view.unapproved,
        )

    def _view(self, hold: Hold, groups: Sequence[HeldGroup], holds: Sequence[Hold]) -> HoldView:
        now = self._store.now()
        kept = kept_back(hold, groups, now)
        return HoldView(
            number=hold.number,
            provider=hold.scope.provider,
            product=hold.scope.product,
            obs_id=hold.scope.obs_id,
            work_class=hold.scope.work_class,
            campaign=hold.scope.campaign,
            pause=hold.pause,
            what=hold.what,
            state=hold.state(now),
            since=instant_of(hold.begins),
            placed=instant_of(hold.placed),
            by=hold.by,
            reason=hold.reason,
            keeps=_number(kept),
            alone=_number(would_start(hold, groups, holds, now)),
            unapproved=_number(each for each in kept if not each.approved),
            released=_time(hold.released),
            released_by=hold.released_by,
            release_reason=hold.release_reason,
            rate=hold.rate,
            ended=_time(hold.ended),
        )

    def _groups(self, holds: Collection[Hold]) -> list[HeldGroup]:
        """Count what is held, by all that holds can be of; an observation only if one is."""
        if not holds:
            return []
        named = {each.scope.obs_id for each in holds if each.scope.obs_id is not None}
        counts: Counter[_Kind] = Counter()
        with reading(self._engine) as connection:
            for approved, (by_kind, of_observation) in _COVERED.items():
                for row in connection.execute(by_kind):
                    counts[_kind_of(row, approved=approved)] = row.number
                for obs_id in named:
                    for row in connection.execute(of_observation, {"obs_id": obs_id}):
                        kind = _kind_of(row, approved=approved)
                        counts[kind._replace(obs_id=obs_id)] += 1
                        counts[kind] -= 1
        return [
            HeldGroup(**kind._asdict(), number=number)
            for kind, number in counts.items()
            if number > 0
        ]

    def campaign_state(self, number: int) -> CampaignState | None:
        """Return how a campaign is, of which work may be held; None if there is none."""
        query = sa.select(campaigns.c.state).where(campaigns.c.number == number)
        with reading(self._engine) as connection:
            state = connection.scalar(query)
        return None if state is None else CampaignState(state)


class _Kind(NamedTuple):
    """What is counted together."""

    provider: str
    product: str
    obs_id: str | None
    work_class: WorkClass
    campaign: int | None
    approved: bool


def _kind_of(row: Row, *, approved: bool) -> _Kind:
    return _Kind(row.provider, row.product, None, WorkClass(row.work_class), row.campaign, approved)


_KIND: Final = (table.c.work_class, table.c.provider, table.c.product, table.c.campaign)


def _covered(rows: str) -> tuple[sa.Select[Any], sa.Select[Any]]:
    """Return what counts such rows by kind, and what reads those of an observation."""
    of_kind = sa.select(*_KIND).where(sa.text(rows))
    by_kind = of_kind.add_columns(sa.func.count().label("number")).group_by(*_KIND)
    return by_kind, of_kind.where(table.c.obs_id == sa.bindparam("obs_id"))


_COVERED: Final = {
    True: _covered(HELD),
    False: _covered(UNAPPROVED),
}
"""By whether they are approved: what is held, and what would be once a person has approved it."""


def _number(groups: Iterable[HeldGroup]) -> int:
    return sum(each.number for each in groups)


def _counted(groups: Sequence[HeldGroup], name: str) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for each in groups:
        counts[getattr(each, name)] += each.number
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else instant_of(seconds)
