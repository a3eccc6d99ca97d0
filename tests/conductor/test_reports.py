"""Reports of a span of time, and the rates of the last minutes: what they count, and from when."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from batuta.cli.app import run
from batuta.conductor.database.views.rate_views import OPEN_MINUTES, RateViews
from batuta.conductor.database.views.report_counts import ReportCounts
from batuta.conductor.database.views.report_views import Report, ReportViews
from batuta.conductor.decisions.approvals import Verdict
from batuta.conductor.decisions.campaigns import CampaignOrder
from batuta.conductor.decisions.circuits import Circuit, CircuitState
from batuta.conductor.decisions.events import PipelineUnreachable, Refused
from batuta.conductor.decisions.reports import (
    COUNTED,
    DAY_S,
    DEFAULT_SPAN_S,
    Facts,
    Incident,
    Span,
    Spread,
    incident_of,
    product_reports,
    quantile,
    rounded,
    span_of,
    spread,
    total_report,
    waiting_at_end,
)
from batuta.conductor.decisions.rules import Arrival
from batuta.conductor.pruner import Pruner
from batuta.conductor.service import open_conductor
from batuta.messaging import ProcessingState as State
from batuta.service.operators import Operator
from batuta.service.retention import RetentionRules
from batuta.work_classes import WorkClass
from tests.conductor.campaign_player import CampaignPlayer, target_of
from tests.conductor.graphs import graph_of
from tests.conductor.harness import UNLIMITED, Harness, OpenLedger
from tests.conductor.stage import Stage, eventually_in, get
from tests.conductor.test_dead_letters import put_aside
from tests.conductor.test_instance_store import arrive, fail
from tests.support.query_plans import costly_queries, recorded
from tests.support.services import serving

GRAPH = graph_of(
    ["A"],
    {
        "B": {"m_input": ["A"], "due": 600},
        "C": {"m_input": ["B"], "provider": "other", "max_attempts": 2},
        "D": {"m_input": ["B"], "approval": "before"},
    },
)
NOW = 1_000_000.0


# ---------------------------------------------------------------------- decisions


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        (None, None, Span(NOW - DEFAULT_SPAN_S, NOW)),
        (NOW - 5, None, Span(NOW - 5, NOW)),
        (None, NOW - 5, Span(NOW - 5 - DEFAULT_SPAN_S, NOW - 5)),
        (NOW - 5, NOW + 5, Span(NOW - 5, NOW + 5)),
    ],
)
def test_a_span_ends_now_and_is_of_half_a_day_where_not_told(
    begin: float | None, end: float | None, expected: Span
) -> None:
    assert span_of(begin, end, NOW) == expected


@pytest.mark.parametrize(
    ("begin", "end", "problem"),
    [
        (NOW, NOW, "from: not before to"),
        (NOW + 5, NOW + 10, "from: is to come"),
        (NOW - 32 * DAY_S, NOW, "from, to: 32.0 days (accepted: at most 31 days"),
    ],
)
def test_a_span_that_is_empty_to_come_or_too_long_is_refused(
    begin: float, end: float, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem.replace("(", r"\(")):
        span_of(begin, end, NOW)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-3.0, 0.0),
        (0.0, 0.0),
        (0.004, 0.0),
        (1.2345, 1.23),
        (9.999, 10.0),
        (12.345, 12.3),
        (123.4, 123.0),
        (1234.0, 1230.0),
        (98_765.0, 98_800.0),
    ],
)
def test_a_duration_is_rounded_to_three_digits(seconds: float, expected: float) -> None:
    assert rounded(seconds) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("durations", "share", "expected"),
    [
        ({3.0: 1}, 0.5, 3.0),
        ({1.0: 1, 2.0: 1}, 0.5, 1.0),
        ({1.0: 1, 2.0: 1, 9.0: 1}, 0.5, 2.0),
        ({5.0: 1, 1.0: 94, 2.0: 1, 7.0: 4}, 0.95, 2.0),
        ({5.0: 1, 1.0: 94, 2.0: 1, 7.0: 4}, 0.96, 5.0),
        ({5.0: 1, 1.0: 94}, 1.0, 5.0),
    ],
)
def test_a_quantile_is_the_shortest_time_that_so_many_do_not_exceed(
    durations: dict[float, int], share: float, expected: float
) -> None:
    assert quantile(durations, share) == expected


def test_nothing_has_no_quantile_and_no_spread() -> None:
    with pytest.raises(ValueError, match="no durations"):
        quantile({}, 0.5)
    assert spread({}) is None


def test_what_waits_at_the_end_is_counted_back_from_what_is_open_now() -> None:
    now, begun, ended = {("p", "B"): 3, ("p", "C"): 1}, {("p", "C"): 1}, {("p", "B"): 2}
    assert waiting_at_end(now, begun, ended) == {("p", "B"): 5}


def test_products_are_reported_by_provider_and_together() -> None:
    facts = Facts()
    facts.add("made", ("q", "C"), 2)
    facts.add("made", ("p", "B"))
    facts.add("late", ("p", "B"), 0)
    facts.add("failed", ("p", "A"), 4)
    facts.latency["p", "B"].update({1.0: 1})
    facts.latency["q", "C"].update({1.0: 1, 3.0: 1})
    found = product_reports(facts)
    assert [(each.provider, each.product) for each in found] == [("p", "A"), ("p", "B"), ("q", "C")]
    assert [each.made for each in found] == [0, 1, 2]
    total = total_report(facts)
    assert (total.made, total.failed, total.late) == (3, 4, 0)
    assert total.latency == Spread(number=3, median_s=1.0, p95_s=3.0)
    assert total.processing is None


_CLOSED = Circuit(provider="p", instance="u")
_OPEN = replace(_CLOSED, state=CircuitState.OPEN, since=1.0)


@pytest.mark.parametrize(
    ("before", "after", "incident"),
    [
        (_CLOSED, _OPEN, Incident.OPENED),
        (_OPEN, replace(_OPEN, state=CircuitState.HALF_OPEN), None),
        (replace(_OPEN, state=CircuitState.HALF_OPEN), _OPEN, None),
        (_OPEN, replace(_OPEN, lost=2.0), Incident.LOST),
        (_OPEN, _CLOSED, None),
    ],
)
def test_that_a_circuit_opens_and_is_lost_is_an_incident_and_a_trial_is_none(
    before: Circuit, after: Circuit, incident: Incident | None
) -> None:
    assert incident_of(before, after) is incident


# ---------------------------------------------------------------------- what is counted


def report_since(harness: Harness, begin: float, end: float | None = None) -> Report:
    now = harness.clock.now
    views = ReportViews(harness.engine, harness.current)
    return views.report(Span(begin, now + 1 if end is None else end), now)


def counted(report: Report, product: str) -> dict[str, int]:
    """Return what was counted of a product, without what there is none of."""
    found = next((each for each in report.products if each.product == product), None)
    values = {name: getattr(found, name, 0) for name in COUNTED}
    return {name: number for name, number in values.items() if number}


def test_what_was_made_counts_in_the_span_in_which_it_was_archived(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    began = harness.clock.now
    first, second = harness.on_data(("A", "o1", 1), ("A", "o2", 1))
    harness.clock.advance(10)
    harness.report(first, State.RUNNING)
    harness.clock.advance(30)
    harness.make(first, "B", 1)
    middle = harness.clock.now + 1
    harness.clock.advance(60)
    harness.make(second, "B", 1)

    early = report_since(harness, began, middle)
    assert counted(early, "B") == {"made": 1, "waiting": 1}
    assert early.products[0].latency == Spread(number=1, median_s=40.0, p95_s=40.0)
    assert early.products[0].processing == Spread(number=1, median_s=30.0, p95_s=30.0)
    assert counted(report_since(harness, middle), "B") == {"made": 1}
    assert report_since(harness, began).total.made == 2
    assert report_since(harness, began - 100, began).products == []


def test_what_is_remade_long_after_its_inputs_has_no_latency(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    began = harness.clock.now
    (request,) = harness.take([Arrival("A", "o1", 1, told_class=WorkClass.REPROCESS)], UNLIMITED)
    harness.clock.advance(30)
    harness.make(request, "B", 1)
    (line,) = report_since(harness, began).products
    assert (line.made, line.latency) == (1, None)


def test_what_an_operator_has_made_again_counts_as_made_and_has_no_latency(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    harness.clock.advance(-harness.clock.now % 60 + 5)
    (request,) = harness.on_data(("A", "o1", 1))
    harness.make(request, "B", 1)
    harness.clock.advance(3600)
    began = harness.clock.now
    harness.ledger.operations.make("B", "o1")
    (again,) = harness.ledger.take_due(UNLIMITED)
    harness.make(again, "B", 2)
    (line,) = report_since(harness, began).products
    assert (line.made, line.latency) == (1, None)
    rates = RateViews(harness.engine, harness.clock).rates(1)
    assert (rates.archived, rates.median_s) == ([1], [None])


def test_the_latency_of_what_is_made_again_counts_from_its_own_start(
    open_ledger: OpenLedger,
) -> None:
    again = {"on_update": "reprocess"}
    harness = open_ledger(
        graph_of(["A"], {"B": {"m_input": ["A"]}, "C": {"m_input": ["B"], **again}})
    )
    harness.clock.advance(-harness.clock.now % 60 + 5)
    (request,) = harness.on_data(("A", "o1", 1))
    harness.clock.advance(10)
    (follows,) = harness.make(request, "B", 1)
    began = harness.clock.now
    harness.clock.advance(30)
    harness.make(follows, "C", 1)
    # Of what is made for the first time, all counts that it waited for.
    (line,) = report_since(harness, began).products[1:]
    assert line.latency == Spread(number=1, median_s=40.0, p95_s=40.0)

    harness.clock.advance(86_400)
    began = harness.clock.now
    harness.ledger.operations.make("B", "o1")
    (ordered,) = harness.ledger.take_due(UNLIMITED)
    harness.clock.advance(3)
    (follows,) = harness.make(ordered, "B", 2)
    harness.clock.advance(20)
    harness.make(follows, "C", 2)
    of_b, of_c = report_since(harness, began).products
    assert (of_b.made, of_b.latency) == (1, None)
    assert of_c.latency == Spread(number=1, median_s=20.0, p95_s=20.0)
    rates = RateViews(harness.engine, harness.clock).rates(2)
    assert (rates.archived, rates.median_s) == ([1, 1], [None, 20.0])


def test_failures_are_counted_though_they_were_retried_since(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 2}}))
    began = harness.clock.now
    mended, broken, retried = harness.on_data(("A", "o1", 1), ("A", "o2", 1), ("A", "o3", 1))
    for request in (mended, broken):
        harness.apply(Refused(processing_id=request.processing_id, error="no"))
    harness.apply(PipelineUnreachable(processing_id=retried.processing_id, error="no"))
    night = harness.clock.now + 1
    assert counted(report_since(harness, began, night), "B") == {
        "failed": 2,
        "still_failed": 2,
        "retried": 1,
        "waiting": 1,
    }
    harness.clock.advance(100)
    harness.ledger.operations.retry(mended.processing_id)
    harness.ledger.operations.cancel(retried.processing_id, "not needed")
    (again,) = [each for each in harness.ledger.take_due(UNLIMITED) if each.obs_id == "o1"]
    harness.make(again, "B", 1)
    assert counted(report_since(harness, began, night), "B") == {
        "failed": 2,
        "still_failed": 1,
        "retried": 1,
        "waiting": 2,  # one was retried since
    }
    assert counted(report_since(harness, night), "B") == {"made": 1, "cancelled": 1}


def test_what_was_late_stays_late_in_the_report_of_that_night(open_ledger: OpenLedger) -> None:
    harness = open_ledger(GRAPH)
    began = harness.clock.now
    request, _ = harness.on_data(("A", "o1", 1), ("A", "o2", 1))
    harness.clock.advance(601)
    harness.ledger.pass_deadlines()
    night = harness.clock.now + 1
    harness.clock.advance(10)
    harness.make(request, "B", 1)
    found = counted(report_since(harness, began, night), "B")
    assert (found["late"], found["still_late"]) == (2, 1)
    assert "late" not in counted(report_since(harness, night), "B")


def test_what_expires_is_told_beside_what_is_cancelled_for_it(open_ledger: OpenLedger) -> None:
    products: dict[str, dict[str, object]] = {"B": {"m_input": ["A"], "expires": 60}}
    harness = open_ledger(graph_of(["A"], products, {"maker": {"max_concurrent": 1}}))
    began = harness.clock.now
    harness.hold("maker")
    harness.on_data(("A", "o1", 1))
    harness.clock.advance(61)
    harness.ledger.pass_deadlines()
    assert counted(report_since(harness, began), "B") == {"expired": 1, "cancelled": 1}


def test_who_has_held_released_approved_and_refused_is_told(open_ledger: OpenLedger) -> None:
    harness = open_ledger(GRAPH)
    began = harness.clock.now
    harness.hold("other", by="ana")
    for request in harness.on_data(("A", "o1", 1), ("A", "o2", 1)):
        harness.make(request, "B", 1)
    answers = harness.ledger.approvals
    answers.answer("D", "o1", None, Verdict.APPROVED, None, Operator("bob", proved=True))
    answers.answer("D", "o2", None, Verdict.REFUSED, "bad seeing", Operator("eve"))
    report = report_since(harness, began)
    assert counted(report, "C") == {"waiting": 2, "held": 2}
    found = counted(report, "D")
    assert (found["approved"], found["refused"]) == (1, 1)
    assert [(each.obs_id, each.verdict, each.by) for each in report.answers.items] == [
        ("o1", "approved", "operator bob"),
        ("o2", "refused", "operator eve (claimed)"),
    ]
    (hold,) = report.holds.items
    assert (hold.what, hold.by, hold.released) == ("provider other", "operator ana (claimed)", None)

    harness.clock.advance(10)
    later = harness.clock.now
    harness.release("other")
    (hold,) = report_since(harness, later).holds.items
    assert hold.released_by == "operator bob (claimed)"
    assert report_since(harness, later + 1, later + 2).holds.total == 0


def test_circuits_that_opened_are_told_after_they_have_closed(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    began = harness.clock.now
    fail(harness, arrive(harness, *range(5)))
    (opened,) = report_since(harness, began).circuits.items
    assert (opened.provider, opened.reason, opened.still) == (
        "maker",
        "maker cannot be reached: Connection refused",
        True,
    )
    harness.ledger.close_circuits("maker")
    (opened,) = report_since(harness, began).circuits.items
    assert not opened.still


def test_campaigns_that_ran_are_told_with_what_they_have_made(open_ledger: OpenLedger) -> None:
    player = CampaignPlayer(open_ledger(graph_of(["A"], {"B": {"m_input": ["A"]}})))
    player.make_all(player.arrive(("A", "o1"), ("A", "o2")))
    number = player.plan(target_of("B"))
    harness = player.harness
    harness.clock.advance(10)
    began = harness.clock.now
    player.order(number, CampaignOrder.START)
    player.run(number)
    (ran,) = report_since(harness, began).campaigns.items
    assert (ran.number, ran.made, ran.failed, ran.total) == (number, 2, 0, 2)
    harness.clock.advance(100)
    assert report_since(harness, harness.clock.now - 50).campaigns.total == 0
    assert report_since(harness, began - 50, began).campaigns.total == 0


def test_what_was_dropped_is_told_and_is_in_no_other_number(open_ledger: OpenLedger) -> None:
    harness = open_ledger(GRAPH)
    began = harness.clock.now
    request, _ = harness.on_data(("A", "o1", 1), ("A", "o2", 1))
    harness.clock.advance(601)
    harness.ledger.pass_deadlines()
    harness.apply(Refused(processing_id=request.processing_id, error="no"))
    night = harness.clock.now + 1
    harness.clock.advance(100 * DAY_S)

    async def write(work: object, *args: object) -> object:
        return work(*args)  # type: ignore[operator]  # of the pruner

    rules = RetentionRules(failed_days=90)
    pruner = Pruner(harness.engine, harness.ledger.retention(rules), write)  # type: ignore[arg-type]  # see above
    assert asyncio.run(pruner.apply()).observations == 1
    report = report_since(harness, began, night)
    assert report.dropped == 1
    assert counted(report, "B") == {"late": 1, "still_late": 1, "waiting": 1}
    assert report_since(harness, night, night + 100).dropped == 0


def test_a_report_reads_what_happened_and_not_history(open_ledger: OpenLedger) -> None:
    harness = open_ledger(GRAPH)
    harness.on_data(("A", "o1", 1))
    with recorded(harness.engine) as statements:
        ReportCounts(harness.engine, GRAPH).read(harness.clock.now - 5, harness.clock.now + 5)
        report_since(harness, harness.clock.now - 5)
        RateViews(harness.engine, harness.clock).rates(60)
    tables = ("processings", "available", "history", "incidents", "orders", "holds", "campaigns")
    names = [f"conductor_{name}" for name in (*tables, "dropped")]
    plans = costly_queries(harness.engine, statements, names, ["conductor_campaigns_open"])
    # What is grouped or sorted is what the index of its time has of the span.
    read_whole = [step for steps in plans.values() for step in steps if "SCAN" in step.upper()]
    assert read_whole == []


# ---------------------------------------------------------------------- rates


def test_rates_are_told_minute_by_minute_and_ended_minutes_are_read_once(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    harness.clock.advance(-harness.clock.now % 60 + 5)
    views = RateViews(harness.engine, harness.clock)
    first, second, third = harness.on_data(("A", "o1", 1), ("A", "o2", 1), ("A", "o3", 1))
    harness.clock.advance(20)
    harness.make(first, "B", 1)
    harness.clock.advance(20)
    harness.make(second, "B", 1)
    assert views.rates(1).archived == [2]
    harness.clock.advance(60)
    harness.make(third, "B", 1)
    found = views.rates(3)
    assert found.archived == [0, 2, 1]
    assert found.median_s == [None, 20.0, 100.0]
    assert found.p99_s == [None, 40.0, 100.0]
    assert found.begin.timestamp() == harness.clock.now // 60 * 60 - 120

    harness.clock.advance(60 * OPEN_MINUTES)
    views.rates(1)
    with recorded(harness.engine) as statements:
        assert views.rates(5).archived == [0, 2, 1, 0, 0]
    (since,) = [dict(_named(each.parameters)) for each in statements]
    assert min(since.values()) == (harness.clock.now // 60 - OPEN_MINUTES + 1) * 60


def _named(parameters: object) -> list[tuple[str, float]]:
    values = parameters.values() if isinstance(parameters, dict) else parameters
    numbers = [each for each in values if isinstance(each, float | int)]  # type: ignore[attr-defined]  # a mapping, or a tuple
    return [(str(place), float(each)) for place, each in enumerate(numbers) if each > NOW / 2]


def test_what_is_older_than_the_hours_that_are_shown_is_forgotten(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    views = RateViews(harness.engine, harness.clock)
    (request,) = harness.on_data(("A", "o1", 1))
    harness.make(request, "B", 1)
    assert Counter(views.rates(720).archived) == {0: 719, 1: 1}
    harness.clock.advance(13 * 3600)
    assert Counter(views.rates(720).archived) == {0: 720}
    assert views._known == {}


# ---------------------------------------------------------------------- REST


def test_a_report_is_asked_for_with_the_dead_letters_of_its_span(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = graph_of(["A"], {"B": {"m_input": ["A"]}})
    with serving(open_conductor, stage.settings(graph)) as url:
        began = datetime.now(UTC)
        stage.archive("A", "o1")
        eventually_in(url, {"B/o1": "succeeded"})
        asyncio.run(put_aside(stage.nats, "DATA", b"what?", "data.vhf#1"))
        soon = datetime.now(UTC) + timedelta(minutes=1)

        def report(begin: datetime, end: datetime | None = None) -> dict[str, object]:
            query = {"from": begin.isoformat()}
            query |= {} if end is None else {"to": end.isoformat()}
            answer = httpx.get(f"{url}/report", params=query, timeout=30)
            found: dict[str, object] = answer.raise_for_status().json()
            return found

        found = report(began, soon)
        assert (found["total"]["made"], found["dead_letters"]) == (1, 1)  # type: ignore[index]  # JSON
        assert datetime.fromisoformat(str(found["from"])) == began
        found = report(began - timedelta(hours=1), began)
        assert (found["products"], found["dead_letters"]) == ([], 0)
        assert get(url, "/report")["total"]["made"] == 1
        assert sum(get(url, "/rates?minutes=5")["archived"]) == 1

        monkeypatch.setenv("BATUTA_CONDUCTOR_URL", url)
        assert run(["report", "--hours=1"]) == 0
        shown = capsys.readouterr().out
        assert "(60 min 00 s)" in shown
        (line,) = [each.split() for each in shown.splitlines() if each.startswith(" B ")]
        assert line[:3] == ["B", "maker", "1"]
        assert "1 dead letter: see batuta dead" in shown
        assert run(["report", "--from=2020-01-01", "--to=2020-01-02", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["products"] == []
        assert run(["report", "--from=2020-01-01", "--to=2020-01-02"]) == 0
        assert "nothing was made, failed, late or waiting" in capsys.readouterr().out
        assert run(["report", "--from=2020-01-01"]) == 1
        assert "at most 31 days: ask for one part after the other" in capsys.readouterr().err

        answer = httpx.get(f"{url}/report", params={"from": "2020-01-01T00:00Z"})
        assert answer.status_code == 422
        assert "at most 31 days" in answer.json()["detail"]
        assert httpx.get(f"{url}/rates?minutes=721").status_code == 422
