"""Answers that several statements read are of one moment, on every kind of database."""

import itertools
from typing import Any

from batuta.conductor.database.views.event_views import EventViews
from batuta.conductor.database.views.failure_views import FailureViews
from batuta.conductor.database.views.hold_views import HoldViews
from batuta.conductor.database.views.late_views import LateViews
from batuta.conductor.database.views.report_views import ReportViews
from batuta.conductor.database.views.why_views import WhyViews
from batuta.conductor.decisions.campaigns import CampaignOrder
from batuta.conductor.decisions.reports import Span
from batuta.graph import Graph
from batuta.messaging import ProcessingState as State
from batuta.service.operators import Operator
from batuta.service.retention import DAY_S, RetentionRules
from tests.conductor.campaign_player import CampaignPlayer, target_of
from tests.conductor.graphs import graph_of
from tests.conductor.harness import Harness, OpenLedger
from tests.conductor.test_retention import made_chain, prune
from tests.support.interleaving import require_one_moment

CHAIN = graph_of(["A"], {"B": {"m_input": ["A"]}, "C": {"m_input": ["B"], "due": 60}})
WITHOUT_C = graph_of(["A"], {"B": {"m_input": ["A"]}})
OLD = RetentionRules(finished_days=1, failed_days=1)


def why_views(harness: Harness, graph: Graph) -> WhyViews:
    events = EventViews(harness.engine, harness.current if graph is CHAIN else graph, harness.views)
    return WhyViews(events, LateViews(harness.engine))


def test_why_says_of_a_product_that_is_archived_meanwhile_that_it_is_there_or_is_made(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(CHAIN)
    views = why_views(harness, CHAIN)
    requests = {}

    def request(obs_id: str) -> None:
        (requests[obs_id],) = harness.on_data(("A", obs_id, 1))

    def archive(obs_id: str) -> None:
        harness.report(requests[obs_id], State.SUCCEEDED)
        harness.make(requests[obs_id], "B", 1)

    require_one_moment(harness.engine, lambda obs_id: views.why("B", obs_id), archive, request)


def test_why_is_by_one_graph_though_another_is_put_in_force_meanwhile(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(CHAIN)
    views = why_views(harness, CHAIN)
    ana = Operator("ana")

    def arrive(obs_id: str) -> None:
        harness.versions.apply(CHAIN, ana)
        harness.on_data(("A", obs_id, 1))

    def change(_: str) -> None:
        harness.versions.apply(WITHOUT_C, ana)

    require_one_moment(harness.engine, lambda obs_id: views.why("C", obs_id), change, arrive)


def test_what_follows_is_open_or_done_while_it_is_made(open_ledger: OpenLedger) -> None:
    harness = open_ledger(CHAIN)
    requests = {}

    def request(obs_id: str) -> None:
        (requests[obs_id],) = harness.on_data(("A", obs_id, 1))

    require_one_moment(
        harness.engine,
        lambda obs_id: harness.views.following("A", obs_id, 1),
        lambda obs_id: harness.make(requests[obs_id], "B", 1),
        request,
    )


def test_an_observation_whose_records_come_back_meanwhile_is_known(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(CHAIN)

    def drop(obs_id: str) -> None:
        made_chain(harness, obs_id)
        harness.clock.advance(31 * DAY_S)
        prune(harness)

    require_one_moment(
        harness.engine,
        harness.views.observation,
        lambda obs_id: harness.on_data(("A", obs_id, 2)),
        drop,
    )


def test_what_is_reported_as_dropped_is_in_no_other_number(open_ledger: OpenLedger) -> None:
    harness = open_ledger(CHAIN)
    reports = ReportViews(harness.engine, harness.current)

    def make(obs_id: str) -> None:
        made_chain(harness, obs_id)
        harness.clock.advance(2 * DAY_S)

    require_one_moment(
        harness.engine,
        lambda _: reports.report(Span(0.0, harness.clock.now + 1), harness.clock.now),
        lambda _: prune(harness, OLD),
        make,
    )


def test_groups_of_failures_that_go_on_meanwhile_are_told_as_they_were(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(CHAIN)
    failures = FailureViews(harness.engine)
    requests = {}

    def fail(obs_id: str) -> None:
        (requests[obs_id],) = harness.on_data(("A", obs_id, 1))
        harness.report(requests[obs_id], State.FAILED, error="broken")

    require_one_moment(
        harness.engine,
        lambda _: failures.page(None, 10),
        lambda obs_id: harness.ledger.operations.cancel(requests[obs_id].processing_id, None),
        fail,
    )


def test_what_the_release_of_a_hold_would_start_is_of_the_holds_that_keep_it_back(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(CHAIN)
    of_b = harness.hold(product="B")
    views = HoldViews(harness.engine, harness.ledger.holds)
    more = itertools.count()

    def release_other(_: str) -> None:
        harness.release(provider="maker")
        harness.on_data(("A", f"held {next(more)}", 1))

    def hold_other(_: str) -> None:
        harness.hold(provider="maker")
        harness.on_data(("A", f"held {next(more)}", 1))

    for ask in (
        lambda _: views.all(),
        lambda _: views.find(of_b.number),
        lambda _: views.preview(of_b.number),
    ):
        require_one_moment(harness.engine, ask, hold_other, release_other)


def test_a_page_of_what_is_late_has_the_number_of_all_of_it(open_ledger: OpenLedger) -> None:
    harness = open_ledger(CHAIN)
    late = LateViews(harness.engine)

    def be_late(obs_id: str) -> None:
        harness.on_data(("A", obs_id, 1))
        harness.clock.advance(61)
        harness.ledger.pass_deadlines()

    require_one_moment(
        harness.engine,
        lambda _: late.page(None, 10, None),
        lambda obs_id: harness.on_data(("C", obs_id, 1)),
        be_late,
    )


def test_the_progress_of_a_campaign_counts_each_of_its_processings_once(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(WITHOUT_C)
    player = CampaignPlayer(harness)
    player.make_all(player.arrive(*(("A", f"o{number}") for number in range(1, 20))))
    number = player.plan(target_of("B"))
    player.order(number, CampaignOrder.START)
    player.rest(number)
    requests = {each.obs_id: each for each in harness.take_due()}

    def make(obs_id: str) -> None:
        player.answer(requests[obs_id])
        player.rest(number)

    def progress(_: str) -> Any:
        found = player.views.find(number)
        assert found is not None
        return found.progress

    require_one_moment(harness.engine, progress, make)
