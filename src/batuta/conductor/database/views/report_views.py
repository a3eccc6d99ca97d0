"""The report of a span of time, as REST shows it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import from_json

from batuta.conductor.database.campaign_schema import OPEN_CAMPAIGN, campaigns
from batuta.conductor.database.campaign_schema import counts as campaign_counts
from batuta.conductor.database.current_graph import CurrentGraph
from batuta.conductor.database.holds.held_work import hold_of
from batuta.conductor.database.records import Row
from batuta.conductor.database.schema import HAS_ENDED, circuits, dropped, holds, incidents
from batuta.conductor.database.views.report_counts import ReportCounts
from batuta.conductor.decisions.campaigns import CampaignState, ItemState
from batuta.conductor.decisions.reports import (
    Incident,
    ProductReport,
    Span,
    product_reports,
    total_report,
)
from batuta.graph import Graph
from batuta.messaging.processings import instant_of
from batuta.service.database import one_moment, reading
from batuta.service.operators import Operator

MAX_LISTED: Final = 100
"""Items of each list: a report is read by people. All are counted."""

T = TypeVar("T")


class Listed(BaseModel, Generic[T]):
    """Things in the order of time: how many there are, and at most the first hundred."""

    total: int
    items: list[T]


class AnswerView(BaseModel):
    """What a person has approved or refused, when and why."""

    time: datetime
    verdict: str
    product: str
    obs_id: str
    by: str
    reason: str | None


class CampaignRun(BaseModel):
    """A campaign that ran; `made`, `failed` and `total` are of all the time that it has run."""

    number: int
    name: str | None
    state: CampaignState
    started: datetime
    ended: datetime | None
    made: int
    failed: int
    total: int


class OpenedCircuit(BaseModel):
    """An address of a provider that was left alone, since it kept failing.

    `lost` tells that it was taken for lost: what it had was sent elsewhere. `still` is whether it
    is left alone now.
    """

    time: datetime
    provider: str
    instance: str
    lost: bool
    reason: str | None
    still: bool


class HoldRecord(BaseModel):
    """A hold that was placed or released; `released` is null while it is in force."""

    number: int
    what: str
    placed: datetime
    by: str
    reason: str | None
    released: datetime | None
    released_by: str | None
    release_reason: str | None


class Report(BaseModel):
    """What happened from a time on, and before another.

    `dead_letters` is null where NATS did not tell. `dropped` counts the observations that were
    heard of since `from`, and whose records were dropped: what was made of them is in no other
    number.
    """

    model_config = ConfigDict(populate_by_name=True)

    begin: datetime = Field(alias="from")
    end: datetime = Field(alias="to")
    asked: datetime
    products: list[ProductReport]
    total: ProductReport
    answers: Listed[AnswerView]
    campaigns: Listed[CampaignRun]
    circuits: Listed[OpenedCircuit]
    holds: Listed[HoldRecord]
    dead_letters: int | None
    dropped: int


class ReportViews:
    """Reads what reports are made of; never writes.

    Parameters
    ----------
    engine : sa.Engine
        Open, with the latest schema.
    graph : Graph or CurrentGraph
        The product graph, or what holds the one in force.
    """

    def __init__(self, engine: sa.Engine, graph: Graph | CurrentGraph) -> None:
        self._engine = engine
        self._current = CurrentGraph.of(graph)

    def report(self, span: Span, now: float) -> Report:
        """Return the report of a span, all but for what NATS tells."""
        counts = ReportCounts(self._engine, self._current.graph)
        within = {"begin": span.begin, "end": span.end}
        with one_moment(self._engine), reading(self._engine) as connection:
            facts, answers = counts.read(span.begin, span.end)
            return Report(
                begin=instant_of(span.begin),
                end=instant_of(span.end),
                asked=instant_of(now),
                products=product_reports(facts),
                total=total_report(facts),
                answers=_listed(Listed[AnswerView], answers, _answer_of),
                campaigns=_campaigns(connection, within),
                circuits=_circuits(connection, within),
                holds=_listed(Listed[HoldRecord], connection.execute(_HOLDS, within), _hold_of),
                dead_letters=None,
                dropped=connection.scalar(_DROPPED, within) or 0,
            )


def _within(column: "sa.Column[float]") -> "sa.ColumnElement[bool]":
    return sa.and_(column >= sa.bindparam("begin"), column < sa.bindparam("end"))


_INCIDENTS: Final = (
    sa.select(incidents)
    .where(_within(incidents.c.at), incidents.c.what.in_([Incident.OPENED, Incident.LOST]))
    .order_by(incidents.c.at)
)
_OPEN_CIRCUITS: Final = sa.select(circuits.c.provider, circuits.c.instance).where(
    circuits.c.since.is_not(None)
)
_STARTED: Final = (campaigns.c.started < sa.bindparam("end"),)
_RUNS: Final = sa.union_all(
    sa.select(campaigns).where(
        sa.text(HAS_ENDED), campaigns.c.ended >= sa.bindparam("begin"), *_STARTED
    ),
    sa.select(campaigns).where(sa.text(OPEN_CAMPAIGN), *_STARTED),
)
_HOLDS: Final = sa.select(holds).where(
    holds.c.number.in_(
        sa.union(
            sa.select(holds.c.number).where(_within(holds.c.placed)),
            sa.select(holds.c.number).where(_within(holds.c.released)),
        )
    )
)
_DROPPED: Final = (
    sa.select(sa.func.count())
    .select_from(dropped)
    .where(dropped.c.last_news >= sa.bindparam("begin"), sa.not_(dropped.c.live))
)


def _listed(kind: type[Listed[T]], rows: Iterable[Row], show: Callable[[Row], T]) -> Listed[T]:
    found = list(rows)
    # Before 2.11, pydantic refuses a `Listed` for a `Listed[AnswerView]`.
    return kind(total=len(found), items=[show(row) for row in found[:MAX_LISTED]])


def _answer_of(row: Row) -> AnswerView:
    about = from_json(row.about)
    return AnswerView(
        time=instant_of(row.at),
        verdict="approved" if row.command == "approve" else "refused",
        product=about.get("product", ""),
        obs_id=about.get("obs_id", ""),
        by=Operator(row.operator, row.proved).label,
        reason=row.reason,
    )


def _circuits(connection: sa.Connection, within: Mapping[str, float]) -> Listed[OpenedCircuit]:
    now_open = {(row.provider, row.instance) for row in connection.execute(_OPEN_CIRCUITS)}

    def show(row: Row) -> OpenedCircuit:
        return OpenedCircuit(
            time=instant_of(row.at),
            provider=row.provider,
            instance=row.instance,
            lost=row.what == Incident.LOST,
            reason=row.reason,
            still=(row.provider, row.instance) in now_open,
        )

    return _listed(Listed[OpenedCircuit], connection.execute(_INCIDENTS, within), show)


def _campaigns(connection: sa.Connection, within: Mapping[str, float]) -> Listed[CampaignRun]:
    rows = sorted(connection.execute(_RUNS, within), key=lambda row: float(row.started))
    shown = [row.number for row in rows[:MAX_LISTED]]
    counted: Counter[tuple[int, str]] = Counter()
    query = sa.select(campaign_counts).where(campaign_counts.c.campaign.in_(shown))
    for row in connection.execute(query) if shown else ():
        counted[row.campaign, row.state] += row.number

    def show(row: Row) -> CampaignRun:
        return CampaignRun(
            number=row.number,
            name=row.name,
            state=CampaignState(row.state),
            started=instant_of(row.started),
            ended=_instant(row.ended),
            made=counted[row.number, ItemState.MADE],
            failed=counted[row.number, ItemState.FAILED],
            total=row.total,
        )

    return _listed(Listed[CampaignRun], rows, show)


def _hold_of(row: Row) -> HoldRecord:
    hold = hold_of(row)
    return HoldRecord(
        number=hold.number,
        what=hold.what,
        placed=instant_of(hold.placed),
        by=hold.by,
        reason=hold.reason,
        released=_instant(hold.released),
        released_by=hold.released_by,
        release_reason=hold.release_reason,
    )


def _instant(seconds: Any) -> datetime | None:
    return None if seconds is None else instant_of(seconds)
