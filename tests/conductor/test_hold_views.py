"""What holds keep back, as it is listed and previewed, where something else does too."""

from typing import cast

import httpx

from batuta.conductor.database.holds.hold_store import Wanted
from batuta.conductor.database.views.event_views import EventViews
from batuta.conductor.database.views.hold_views import HoldView, HoldViews
from batuta.conductor.database.views.late_views import LateViews
from batuta.conductor.database.views.why_views import WhyDetail, WhyViews
from batuta.conductor.decisions.approvals import Verdict
from batuta.conductor.decisions.holds import Scope
from batuta.conductor.decisions.rules import Arrival
from batuta.conductor.dispatch.archive import Archive
from batuta.conductor.dispatch.dispatcher import Dispatcher
from batuta.conductor.dispatch.providers import Providers
from batuta.conductor.hold_watch import HoldWatch
from batuta.conductor.routes.hold_routes import hold_router
from batuta.service.app import AppConfig, create_app
from batuta.service.operators import Operator
from batuta.service.routing import add_routers
from tests.conductor.graphs import graph_of
from tests.conductor.harness import UNLIMITED, Harness, OpenLedger
from tests.support.interleaving import changed_after

GRAPH = graph_of(["A"], {"B": {"m_input": ["A"], "approval": "before"}, "C": {"m_input": ["A"]}})
ANA = Operator("ana")


def _why(harness: Harness, product: str) -> WhyDetail:
    events = EventViews(harness.engine, harness.graph, harness.views)
    return WhyViews(events, LateViews(harness.engine)).why(product, "o1")


def _counts(held: HoldView) -> tuple[int, int, int]:
    return held.keeps, held.alone, held.unapproved


def test_what_is_not_approved_yet_is_kept_back_and_not_started_by_a_release(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(GRAPH)
    harness.take([Arrival("A", name, 1) for name in ("o1", "o2")], UNLIMITED)
    first, second = harness.hold(product="B"), harness.hold(obs_id="o1")
    views = HoldViews(harness.engine, harness.ledger.holds)
    assert [_counts(each) for each in views.all()] == [(2, 0, 2), (1, 0, 1)]

    preview = views.preview(first.number)
    assert preview is not None
    assert (preview.starts, preview.unapproved, preview.remains) == (0, 2, 0)
    assert (
        harness.ledger.approvals.answer("B", "o2", None, Verdict.APPROVED, None, ANA).problem
        is None
    )
    assert [_counts(each) for each in views.all()] == [(2, 1, 1), (1, 0, 1)]

    harness.release(product="B")
    assert harness.due() == ["B"]
    assert [_counts(each) for each in views.all()] == [(1, 0, 1)]
    assert second.number == views.all()[0].number


def test_why_of_what_is_not_approved_names_the_hold_that_would_keep_it_back_then(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(GRAPH)
    harness.take([Arrival("A", "o1", 1)], UNLIMITED)
    harness.hold(product="B")
    told = _why(harness, "B")
    assert "once approved, held by hold 1 of product B since" in told.answer
    assert "before it is made; then held by hold 1 of product B" in "\n".join(told.words)
    assert told.needs[0].startswith("batuta approve B o1")
    assert told.needs[1] == "then the release of hold 1 of product B: batuta release --hold 1"
    harness.release(product="B")
    assert len(_why(harness, "B").needs) == 1


async def test_a_hold_that_is_placed_while_it_is_looked_for_was_not_there(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(GRAPH)
    store = harness.ledger.holds
    dispatcher = Dispatcher(
        harness.ledger, cast(Providers, None), cast(Archive, None), lambda _: None
    )
    watch = HoldWatch(store, dispatcher.write, lambda: None, lambda *_: None)
    app = create_app(AppConfig(name="x", description=""))
    add_routers(
        app, hold_router(harness.current, HoldViews(harness.engine, store), watch, dispatcher)
    )

    def place() -> None:
        store.place(Wanted(scope=Scope(product="B"), by=ANA))

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        # After what looks for open holds, before what looks for one that was released.
        looked = 1 + (harness.engine.dialect.name == "sqlite")
        with changed_after(harness.engine, looked, place) as is_placed:
            answer = await client.get("/holds/1/preview")
        assert is_placed()
        assert (answer.status_code, answer.json()["detail"]) == (404, "hold 1: not found")
        assert (await client.get("/holds/1/preview")).status_code == 200
