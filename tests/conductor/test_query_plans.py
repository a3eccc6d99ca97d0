"""What the conductor asks of its database costs the same whatever its history."""

import asyncio
from dataclasses import dataclass
from itertools import product as combinations
from typing import Any, cast

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from batuta.conductor.campaign_runner import CampaignRunner
from batuta.conductor.database.campaign_schema import campaigns, items
from batuta.conductor.database.campaign_schema import parts as campaign_parts
from batuta.conductor.database.operations.order_sets import SetFilters, SetOrder, states_of
from batuta.conductor.database.schema import (
    approvals,
    available,
    events,
    holds,
    observations,
    orders,
    processings,
)
from batuta.conductor.database.views.event_views import EventViews
from batuta.conductor.database.views.failure_views import FailureViews
from batuta.conductor.database.views.hold_views import HoldViews
from batuta.conductor.database.views.late_views import LateViews
from batuta.conductor.database.views.provider_views import ProviderViews
from batuta.conductor.decisions.approvals import Verdict
from batuta.conductor.decisions.campaigns import CampaignOrder
from batuta.conductor.decisions.commands import Urgency
from batuta.conductor.decisions.differences import Difference, DifferenceKind
from batuta.conductor.decisions.events import PipelineUnreachable
from batuta.conductor.decisions.order_sets import SetCommand
from batuta.conductor.decisions.outcomes import HeardEvent
from batuta.conductor.decisions.rules import Arrival
from batuta.conductor.graph_changer import GraphChanger
from batuta.conductor.reconciliation import Reconciler
from batuta.conductor.routes.api import add_routes
from batuta.conductor.routes.components import Components
from batuta.service.operators import UNNAMED
from batuta.work_classes import WorkClass
from tests.conductor.campaign_player import CampaignPlayer, target_of
from tests.conductor.graphs import graph_of
from tests.conductor.harness import UNLIMITED, Harness, OpenLedger
from tests.support.query_plans import costly_queries, recorded

BIG = [
    table.name
    for table in (
        approvals,
        available,
        campaign_parts,
        campaigns,
        events,
        holds,
        items,
        observations,
        orders,
        processings,
    )
]
OF_OPEN = [
    "conductor_campaigns_open",
    "conductor_due",
    "conductor_later",
    "conductor_followed",
    "conductor_stale",
    "conductor_to_approve",
    "conductor_to_approve_by_gate",
    "conductor_held",
    "conductor_held_by",
    "conductor_unapproved",
]
"""Indexes of what is stale, or has not ended: they do not grow with history."""
GRAPH = graph_of(
    ["A"],
    {
        "B": {"m_input": ["A"], "on_update": "reprocess"},
        "C": {"m_input": ["A"], "o_input": ["B"], "o_wait": 60},
        "D": {"m_input": ["A"], "approval": "before"},
        "E": {"m_input": ["A"], "approval": "after", "late_result": "ask"},
    },
    {"maker": {"max_concurrent": 1000}},
)
FILTERS = {
    "state": [None, "failed"],
    "product": [None, "B", "B*"],
    "obs_id": [None, "o1", "o*"],
    "provider": [None, "maker", "m?ker"],
    "stale": [None, "true"],
}
_OF_EVENTS = {
    "outcome": [None, "triggered", "waiting", "ignored"],
    "product": [None, "A"],
    "obs_id": [None, "o1"],
    "since": [None, "2026-11-29T08:00Z"],
    "until": [None, "2026-11-30T08:00Z"],
}
_RARE = {
    "class": [None, "alert"],
    "stage": [None, "preliminary"],
    "campaign": [None, "1"],
    "state": [None, "failed"],
    "product": [None, "B"],
    "obs_id": [None, "o*"],
    "stale": [None, "true"],
}


def queries(filters: dict[str, list[str | None]], cursor: str) -> list[dict[str, str]]:
    """Combine all filters, each on its first page and a later one."""
    return [
        {**{name: value for name, value in zip(filters, values, strict=True) if value}, **after}
        for values in combinations(*filters.values())
        for after in ({}, {"cursor": cursor})
    ]


QUERIES: dict[str, list[dict[str, Any]]] = {
    "/observations": [
        {"order": order, **stage, **after}
        for order, cursor in (("obs_id", "o1"), ("newest", "1.0_o1"))
        for stage in ({}, {"stage": "preliminary"})
        for after in ({}, {"cursor": cursor})
    ],
    "/processings": queries(FILTERS, "9e9_z") + queries(_RARE, "9e9_z"),
    "/events": queries(_OF_EVENTS, "9e9_7"),
}
QUERIES["/approvals"] = [
    {**filters, **after}
    for filters in ({}, {"product": "D", "obs_id": "o*"})
    for after in ({}, {"cursor": "processing:9e9_z"}, {"cursor": "version:7"})
]
QUERIES["/orders"] = [
    {},
    {"command": "make", "operator": "alice", "since": "2026-11-29T08:00Z", "cursor": "9"},
]
QUERIES["/failures"] = [
    {**provider, **after}
    for provider in ({}, {"provider": "maker"})
    for after in ({}, {"cursor": '["maker", "no luck"]'})
]
QUERIES["/processings"] += [{"error_kind": "no luck", "provider": "maker", "state": "failed"}]
QUERIES["/campaigns"] = [
    {**({"state": state} if state else {}), **after}
    for state in (None, "done")
    for after in ({}, {"cursor": "7"})
]
QUERIES["/campaigns/{number}/items"] = [{}, {"cursor": "o1/B"}]
VALUES = {"obs_id": "o1", "product": "B", "event_id": "e1", "number": 1}
LOGS = {f"/processings/{{processing_id}}/{part}" for part in ("log", "workers_log", "tiles")}
WITHOUT = {"/reconciliation", "/retention", "/services", "/dead", "/dead/{sequence}", *LOGS}
"""The first two look at all records, by the batch; the others read no database."""
OF_A_SPAN = {"/report", "/rates"}
"""They sort and group what happened in a span: see `tests.conductor.test_reports`."""


@dataclass
class Played:
    """An orchestra of one observation that was played a little."""

    harness: Harness
    processing_id: str
    engine: sa.Engine


@pytest.fixture
def played(open_ledger: OpenLedger) -> Played:
    harness = open_ledger(GRAPH)
    heard = HeardEvent(
        id="e1", source="vhf", received=1.0, sequence=1, product="A", obs_id="o1", version=1
    )
    request, *_ = harness.take([Arrival("A", "o1", 1)], UNLIMITED, [heard])
    harness.ledger.operations.make("B", "o1")
    player = CampaignPlayer(harness)
    number = player.plan(target_of("B"))
    for order in (CampaignOrder.START, CampaignOrder.CANCEL):
        player.order(number, order)
        player.rest(number)
    return Played(harness, request.processing_id, harness.engine)


async def test_no_route_reads_or_sorts_a_whole_table(played: Played) -> None:
    app = FastAPI()
    reconciler = Reconciler(played.engine, GRAPH, cast("Any", None), list)
    parts = cast("Any", None)
    harness = played.harness
    runner = CampaignRunner(harness.campaigns, GRAPH, parts, parts, parts, asyncio.Event())
    add_routes(
        app,
        Components(
            harness.current,
            harness.views,
            parts,
            parts,
            parts,
            reconciler,
            parts,
            parts,
            parts,
            EventViews(harness.engine, GRAPH, harness.views),
            parts,
            parts,
            LateViews(harness.engine),
            GraphChanger(harness.engine, harness.versions, parts, parts, parts, parts),
            HoldViews(harness.engine, harness.ledger.holds),
            parts,
            runner,
            parts,
            ProviderViews(harness.engine, harness.current, harness.ledger.circuits.instances_of),
            harness.ledger.stops,
        ),
    )
    # Not app.routes: newer versions of FastAPI keep the routes of a router out of it.
    paths = {path for path, methods in app.openapi()["paths"].items() if "get" in methods}
    values = {**VALUES, "processing_id": played.processing_id}
    transport = httpx.ASGITransport(app)
    await asyncio.to_thread(harness.hold, "maker")
    await asyncio.to_thread(harness.hold, obs_id="o1")
    with recorded(played.engine) as statements:
        client = httpx.AsyncClient(transport=transport, base_url="http://conductor")
        for path in paths - WITHOUT - OF_A_SPAN:
            for query in QUERIES.get(path, [{}]):
                answer = await client.get(path.format(**values), params=query)
                assert answer.status_code == 200, (path, query, answer.text)
        assert (await client.get("/why/B/o2")).status_code == 200
    assert len(statements) > 50
    assert costly_queries(played.engine, statements, BIG, OF_OPEN) == {}


def test_no_decision_reads_or_sorts_a_whole_table(played: Played) -> None:
    harness, ledger = played.harness, played.harness.ledger
    operations = ledger.operations
    with recorded(played.engine) as statements:
        harness.on_data(("A", "o1", 2), ("A", "o2", 1))
        harness.take([Arrival("E", "o1", 1, archived=True)], UNLIMITED)
        for name in ("D", "E"):
            answered = ledger.approvals.answer(name, "o1", None, Verdict.APPROVED, None, UNNAMED)
            assert answered.question is not None
        harness.apply(PipelineUnreachable(processing_id=played.processing_id, error="no"))
        ledger.take_due(UNLIMITED)
        ledger.advance([], UNLIMITED, UNLIMITED)
        ledger.unsettled([played.processing_id])
        operations.make("B", "o1")
        harness.hold("maker")
        harness.release("maker")
        operations.retry(played.processing_id)
        operations.reprioritize(played.processing_id, Urgency(work_class=WorkClass.ALERT))
        operations.cancel(played.processing_id, "not wanted")
        carry_out_sets(harness)
        operations.correct(
            [
                Difference(kind=kind, product="A", obs_id="o1", recorded=2, archived=None)
                for kind in (DifferenceKind.NOT_ARCHIVED, DifferenceKind.WITHDRAWN)
            ]
        )
        harness.views.counts()
    assert costly_queries(played.engine, statements, BIG, OF_OPEN) == {}


def carry_out_sets(harness: Harness) -> None:
    """Order each command with each filter, and carry the orders out."""
    sets = harness.ledger.order_sets
    for command in SetCommand:
        for columns in (
            {"product": "B"},
            {"obs_id": "o*", "work_class": "live"},
            {"campaign": 1},
            {"stage": "preliminary"},
            {"provider": "maker", "error_kind": "no luck"},
        ):
            filters = SetFilters(columns=columns, states=states_of(command, []), since=1.0)
            sets.begin(SetOrder(command=command, filters=filters), sets.select(filters).total)
    while (order := sets.under_way()) is not None:
        ids, position = sets.next_batch(order)
        sets.carry_out(order, ids, position)


def test_failures_are_counted_from_their_index(played: Played) -> None:
    played.harness.apply(PipelineUnreachable(processing_id=played.processing_id, error="no"))
    with recorded(played.engine) as statements:
        assert len(FailureViews(played.engine).page(None, 10).items) == 1
    assert len(statements) == 3
    assert costly_queries(played.engine, statements, BIG) == {}


def test_records_are_compared_with_the_sdb_by_the_batch(played: Played) -> None:
    reconciler = Reconciler(played.engine, GRAPH, cast("Any", None), list)
    with recorded(played.engine) as statements:
        reconciler._available_after(("", ""), 1e12)
        reconciler._succeeded_after((0.0, ""), 1e12)
    assert costly_queries(played.engine, statements, BIG, OF_OPEN) == {}


def test_what_costs_more_with_history_is_found(played: Played) -> None:
    with recorded(played.engine) as statements, played.engine.connect() as connection:
        connection.execute(sa.select(processings).where(processings.c.error == "none"))
        connection.execute(sa.select(processings.c.id).order_by(processings.c.started).limit(1))
    assert len(costly_queries(played.engine, statements, BIG)) == 2
