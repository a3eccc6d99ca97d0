"""The conductor's database, on every kind of database, with a clock of the test's own."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import sqlalchemy as sa

from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.requests.lost_instances import COUNTS_ATTEMPTS
from batuta.conductor.database.requests.slots import Capacity
from batuta.conductor.decisions.events import (
    Archived,
    Busy,
    Interface,
    PipelineUnreachable,
    Refused,
    StatusUpdate,
)
from batuta.conductor.decisions.holds import Scope
from batuta.conductor.decisions.rules import Arrival
from batuta.messaging import ProcessingState as State
from tests.conductor.graphs import diamond, graph_of
from tests.conductor.harness import NOTHING, UNLIMITED, Harness, OpenLedger


def names(requests: list[DueRequest]) -> list[str]:
    return sorted(request.product for request in requests)


def test_a_notification_gives_the_requests_of_what_it_feeds(open_ledger: OpenLedger) -> None:
    harness = open_ledger(diamond())
    assert names(harness.on_data(("A", "o1", 1))) == ["B", "C"]
    assert harness.on_data(("B", "o1", 1)) == []
    assert names(harness.on_data(("C", "o1", 1))) == ["D"]


def test_a_notification_received_twice_makes_nothing_twice(open_ledger: OpenLedger) -> None:
    harness = open_ledger(diamond())
    harness.on_data(("A", "o1", 1), ("A", "o1", 1))
    assert harness.on_data(("A", "o1", 1)) == []
    assert len(harness.views.processings({}, 100, None).items) == 2


def test_observations_do_not_mix(open_ledger: OpenLedger) -> None:
    harness = open_ledger(diamond())
    harness.on_data(("B", "o1", 1))
    assert harness.on_data(("C", "o2", 1)) == []


def test_a_newer_version_makes_a_product_anew_where_the_graph_says_so(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(diamond(on_update="reprocess"))
    (first,) = harness.on_data(("B", "o1", 1), ("C", "o1", 1))
    # Not at once with the first: the one made from older inputs might be archived last.
    assert harness.on_data(("B", "o1", 2)) == []
    harness.report(first, State.SUCCEEDED)
    assert harness.due() == ["D"]
    assert harness.on_data(("B", "o1", 2)) == []
    assert harness.on_data(("B", "o1", 1)) == []


def test_two_conductors_that_receive_one_input_each_claim_once(open_ledger: OpenLedger) -> None:
    harnesses = [open_ledger(diamond()), open_ledger(diamond())]
    observations = [f"o{number}" for number in range(30)]

    def receive(harness: Harness, product: str) -> list[DueRequest]:
        return [
            request for obs_id in observations for request in harness.on_data((product, obs_id, 1))
        ]

    with ThreadPoolExecutor(2) as pool:
        halves = list(pool.map(receive, harnesses, ["B", "C"]))
    asked = [request.obs_id for half in halves for request in half if request.product == "D"]
    assert sorted(asked) == sorted(observations)


def test_a_failure_is_retried_after_growing_waits_then_shown(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 3}}))
    (request,) = harness.on_data(("A", "o1", 1))
    for attempt, wait in ((1, 1.0), (2, 2.0)):
        harness.report(request, State.FAILED, attempt=attempt, error="no luck")
        assert harness.state(request) is State.RETRYING
        harness.clock.advance(wait - 0.01)
        assert harness.due() == []
        harness.clock.advance(0.02)
        assert harness.due() == ["B"]
    harness.report(request, State.FAILED, attempt=3, error="no luck at all")
    assert harness.state(request) is State.FAILED
    assert harness.error(request) == "no luck at all"
    harness.clock.advance(1e6)
    assert harness.due() == []


def test_a_refusal_is_final_at_once(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    (request,) = harness.on_data(("A", "o1", 1))
    harness.apply(Refused(processing_id=request.processing_id, error="unknown product"))
    assert harness.state(request) is State.FAILED


def test_a_late_report_of_an_earlier_attempt_changes_nothing(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    (request,) = harness.on_data(("A", "o1", 1))
    harness.report(request, State.FAILED, error="first")
    harness.clock.advance(2)
    (again,) = harness.ledger.take_due(UNLIMITED)
    harness.report(request, State.FAILED, error="first, reported again")
    assert harness.state(request) is State.REQUESTED
    harness.report(again, State.SUCCEEDED)
    assert harness.state(request) is State.SUCCEEDED
    harness.report(again, State.FAILED, error="too late")
    assert harness.state(request) is State.SUCCEEDED


def test_a_pipeline_that_goes_on_with_an_earlier_attempt_is_followed(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    (request,) = harness.on_data(("A", "o1", 1))
    harness.report(request, State.FAILED, error="cannot be reached")
    harness.clock.advance(2)
    (again,) = harness.ledger.take_due(UNLIMITED)
    # The first request had arrived after all: the answer to the second says attempt 1 runs.
    harness.report(again, State.RUNNING, attempt=1, asked_attempt=2)
    harness.report(request, State.SUCCEEDED, attempt=1)
    assert harness.state(request) is State.SUCCEEDED


def test_a_full_pipeline_costs_no_attempt(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 1}}))
    (request,) = harness.on_data(("A", "o1", 1))
    harness.apply(Busy(processing_id=request.processing_id, error="full", wait_s=5.0))
    assert harness.due() == []
    harness.clock.advance(5)
    (again,) = harness.ledger.take_due(UNLIMITED)
    assert again.attempt == 1


def test_the_highest_priority_goes_first_and_full_providers_are_passed_over(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(
        graph_of(
            ["A"],
            {
                "LOW": {"m_input": ["A"]},
                "HIGH": {"m_input": ["A"], "priority": 9},
                "OTHER": {"m_input": ["A"], "provider": "other", "priority": 99},
            },
        )
    )
    taken = harness.take(
        [Arrival("A", "o1", 1)],
        Capacity(total=1, of_provider=lambda name: 0 if name == "other" else 1),
    )
    assert names(taken) == ["HIGH"]
    assert harness.due() == ["OTHER", "LOW"]


def test_a_provider_gets_no_more_at_once_than_it_may(open_ledger: OpenLedger) -> None:
    harness = open_ledger(
        graph_of(["A"], {"B": {"m_input": ["A"]}}, {"maker": {"max_concurrent": 2}})
    )
    first = harness.on_data(*[("A", f"o{number}", 1) for number in range(5)])
    assert len(first) == 2
    assert harness.due() == []
    harness.report(first[0], State.SUCCEEDED)
    assert len(harness.due()) == 1


def test_optional_inputs_on_their_way_are_waited_for_but_no_longer_than_said(
    open_ledger: OpenLedger,
) -> None:
    graph = graph_of(
        ["A"],
        {"B": {"m_input": ["A"]}, "R": {"m_input": ["A"], "o_input": ["B"], "o_wait": 60}},
    )
    harness = open_ledger(graph)
    assert names(harness.on_data(("A", "o1", 1), ("A", "o2", 1))) == ["B", "B"]
    assert names(harness.on_data(("B", "o1", 1))) == ["R"]
    harness.clock.advance(61)
    assert harness.due() == ["R"]


def test_optional_inputs_that_failed_are_not_waited_for(open_ledger: OpenLedger) -> None:
    graph = graph_of(
        ["A"],
        {
            "B": {"m_input": ["A"], "max_attempts": 1},
            "R": {"m_input": ["A"], "o_input": ["B"], "o_wait": 60},
        },
    )
    harness = open_ledger(graph)
    (request,) = harness.on_data(("A", "o1", 1))
    harness.report(request, State.FAILED, error="broken")
    assert harness.due() == ["R"]


def test_what_waits_is_claimed_from_the_inputs_there_when_it_leaves(
    open_ledger: OpenLedger,
) -> None:
    graph = graph_of(
        ["A"],
        {
            "B": {"m_input": ["A"]},
            "R": {
                "m_input": ["A"],
                "o_input": ["B"],
                "o_wait": 60,
                "on_update": "reprocess",
            },
        },
    )
    harness = open_ledger(graph)
    harness.on_data(("A", "o1", 1))
    (report,) = harness.on_data(("B", "o1", 1))
    found = harness.views.processing(report.processing_id)
    assert found is not None
    assert found.inputs == {"A": 1, "B": 1}
    assert len(harness.views.processings({"product": "R"}, 10, None).items) == 1


def test_processings_without_reports_are_polled_ever_less_often(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    harness.on_data(("A", "o1", 1))
    assert harness.due_for_polling(Capacity(total=64)) == []
    polled_at = []
    start = harness.clock.now
    while harness.clock.now - start < 300:
        harness.clock.advance(0.5)
        if harness.due_for_polling(Capacity(total=64)):
            polled_at.append(harness.clock.now - start)
    gaps = [later - earlier for earlier, later in pairwise(polled_at)]
    assert polled_at[0] == pytest.approx(2.0, abs=0.6)
    assert gaps == sorted(gaps)
    assert max(gaps) == pytest.approx(60.0, abs=1)


def test_a_running_processing_is_polled_by_its_deadline(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"], "timeout": 5}}))
    (request,) = harness.on_data(("A", "o1", 1))
    harness.clock.advance(1)
    harness.report(request, State.RUNNING)
    harness.due_for_polling(Capacity(total=64))
    harness.clock.advance(5.1)
    polls = harness.due_for_polling(Capacity(total=64))
    assert [poll.record.product for poll in polls] == ["B"]


def test_a_provider_that_answers_slowly_does_not_keep_others_from_being_polled(
    open_ledger: OpenLedger,
) -> None:
    slow: dict[str, object] = {"m_input": ["A"], "provider": "slow"}
    harness = open_ledger(graph_of(["A", "Z"], {"B": slow, "C": {"m_input": ["Z"]}}))
    harness.on_data(*(("A", f"o{number}", 1) for number in range(100)))
    # Those of the slow one are due first.
    harness.clock.advance(1)
    harness.on_data(*(("Z", f"o{number}", 1) for number in range(100)))
    harness.clock.advance(10)
    places = {"slow": 3, "maker": 1000}
    polls = harness.due_for_polling(Capacity(total=64, of_provider=places.__getitem__))
    counts = Counter(poll.record.provider for poll in polls)
    assert counts == {"slow": 3, "maker": 61}


def test_polls_that_wait_for_a_place_do_not_wake_the_dispatcher(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    harness.on_data(("A", "o1", 1))
    harness.clock.advance(10)
    assert harness.due_for_polling(Capacity(total=64, of_provider=lambda _: 0)) == []
    assert harness.ledger.advance([], NOTHING, NOTHING).due_at is None


def test_what_is_held_is_not_requested_until_released(open_ledger: OpenLedger) -> None:
    harness = open_ledger(diamond())
    harness.hold(None)
    assert harness.on_data(("A", "o1", 1)) == []
    states = {item.state for item in harness.views.processings({}, 10, None).items}
    assert states == {State.HELD}
    harness.release(None)
    assert sorted(harness.due()) == ["B", "C"]


def test_releasing_one_provider_leaves_the_hold_of_all(open_ledger: OpenLedger) -> None:
    harness = open_ledger(diamond())
    harness.hold(None)
    harness.hold("maker")
    harness.on_data(("A", "o1", 1))
    harness.release("maker")
    assert harness.due() == []
    (left,) = harness.ledger.holds.open_holds()
    assert left.scope == Scope()


def test_a_failed_processing_asked_for_again_has_all_its_attempts(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 1}}))
    (request,) = harness.on_data(("A", "o1", 1))
    assert harness.ledger.operations.retry(request.processing_id).changed is False
    harness.report(request, State.FAILED, error="broken")
    assert harness.ledger.operations.retry(request.processing_id).changed
    (again,) = harness.ledger.take_due(UNLIMITED)
    assert (again.processing_id, again.attempt) == (request.processing_id, 2)


@pytest.mark.parametrize("on_update", ["ignore", "reprocess"])
def test_a_newer_input_gives_a_product_that_failed_for_it_its_attempts_anew(
    open_ledger: OpenLedger, on_update: str
) -> None:
    product = {"m_input": ["A"], "max_attempts": 1, "on_update": on_update}
    harness = open_ledger(graph_of(["A"], {"B": product}))
    (request,) = harness.on_data(("A", "o1", 1))
    harness.report(request, State.FAILED, error="empty file")
    assert harness.on_data(("A", "o1", 1)) == []
    (again,) = harness.on_data(("A", "o1", 2))
    assert (again.product, harness.state(again)) == ("B", State.REQUESTED)
    answer = harness.views.why("B", "o1").answer
    assert "claimed from A v2" in answer
    harness.report(again, State.SUCCEEDED)
    assert len(harness.on_data(("A", "o1", 3))) == (on_update == "reprocess")


def test_why_says_which_newer_input_a_failed_product_is_made_from(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 1}}))
    for version in (1, 2, 3):
        (request,) = harness.on_data(("A", "o1", version))
        answer = harness.views.why("B", "o1").answer
        if version == 3:
            assert "empty file; to be made again: A v3 has arrived since; claimed" in answer
        harness.report(request, State.FAILED, error="empty file")


def test_a_cancelled_processing_stays_cancelled(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    (request,) = harness.on_data(("A", "o1", 1))
    assert harness.ledger.operations.cancel(request.processing_id, "by a person") is not None
    harness.report(request, State.RUNNING)
    assert harness.state(request) is State.CANCELLED
    assert harness.ledger.operations.cancel(request.processing_id, "again") is None


def test_a_person_may_have_a_product_made_again(open_ledger: OpenLedger) -> None:
    harness = open_ledger(diamond())
    for request in harness.on_data(("A", "o1", 1)):
        harness.report(request, State.SUCCEEDED)
    harness.ledger.operations.make("B", "o1")
    (again,) = harness.ledger.take_due(UNLIMITED)
    assert (again.product, harness.state(again)) == ("B", State.REQUESTED)


def test_a_rebuilt_ledger_does_not_make_again_what_the_sdb_holds(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(diamond())
    before = harness.ledger.rebuilt
    harness.ledger.rebuild([Arrival("A", "o1", 1), Arrival("B", "o1", 3)])
    assert (before, harness.ledger.rebuilt) == (False, True)
    assert names(harness.on_data(("A", "o1", 1))) == ["C"]


def test_a_database_keeps_its_identity(open_ledger: OpenLedger) -> None:
    first, second = open_ledger(diamond()).ledger, open_ledger(diamond()).ledger
    assert first.identity() == second.identity() != ""


def test_long_lists_come_in_pages_without_gaps(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    harness.on_data(*[("A", f"o{number:03}", 1) for number in range(25)])
    page = harness.views.processings({}, 10, None)
    seen = [item.obs_id for item in page.items]
    while page.next is not None:
        page = harness.views.processings({}, 10, page.next)
        seen += [item.obs_id for item in page.items]
    assert sorted(seen) == [f"o{number:03}" for number in range(25)]
    observations = harness.views.observations(20, None)
    assert len(observations.items) == 20
    assert len(harness.views.observations(20, observations.next).items) == 5


def test_why_names_what_is_lacking(open_ledger: OpenLedger) -> None:
    harness = open_ledger(diamond())
    harness.on_data(("B", "o1", 1))
    why = harness.views.why("D", "o1")
    assert why.answer == "D was not made: it lacks C, which lacks A"
    (request,) = harness.on_data(("C", "o1", 1))
    harness.report(request, State.FAILED, error="disk full")
    assert "disk full" in harness.views.why("D", "o1").answer


def test_why_names_the_input_that_failed_and_its_reason(open_ledger: OpenLedger) -> None:
    graph = graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 1}, "C": {"m_input": ["B"]}})
    harness = open_ledger(graph)
    (request,) = harness.on_data(("A", "o1", 1))
    harness.report(request, State.FAILED, error="disk full")
    expected = "C was not made: it lacks B, which is failed (disk full)"
    assert harness.views.why("C", "o1").answer == expected


def test_a_processing_stopped_at_its_deadline_is_retried_whoever_reports_it_first(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"], "timeout": 5}}))
    (request,) = harness.on_data(("A", "o1", 1))
    harness.report(request, State.RUNNING)
    harness.clock.advance(6)
    harness.report(request, State.CANCELLED)
    assert harness.state(request) is State.RETRYING
    assert "no end after 5 s (timeout)" in (harness.error(request) or "")


def test_cancelled_before_its_deadline_it_stays_cancelled(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"], "timeout": 5}}))
    (request,) = harness.on_data(("A", "o1", 1))
    harness.report(request, State.RUNNING)
    harness.report(request, State.CANCELLED)
    assert harness.state(request) is State.CANCELLED


def test_a_late_success_counts_after_a_failure_was_recorded(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 1}}))
    (request,) = harness.on_data(("A", "o1", 1))
    harness.apply(PipelineUnreachable(processing_id=request.processing_id, error="no answer"))
    assert harness.state(request) is State.FAILED
    harness.report(request, State.SUCCEEDED)
    assert harness.state(request) is State.SUCCEEDED


def test_a_late_answer_about_an_attempt_that_is_over_changes_nothing(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    (request,) = harness.on_data(("A", "o1", 1))
    harness.report(request, State.FAILED, error="killed")
    harness.clock.advance(2)
    (again,) = harness.ledger.take_due(UNLIMITED)
    late = PipelineUnreachable(processing_id=request.processing_id, asked_attempt=1, error="late")
    harness.apply(late)
    assert harness.state(again) is State.REQUESTED


def test_a_provider_with_no_place_left_does_not_hide_what_others_can_take(
    open_ledger: OpenLedger,
) -> None:
    graph = graph_of(
        ["A", "X"],
        {
            "B": {"m_input": ["A"], "priority": 9},
            "Y": {"m_input": ["X"], "provider": "other"},
        },
    )
    harness = open_ledger(graph)
    arrivals = [Arrival("A", f"o{number:02}", 1) for number in range(20)]
    capacity = Capacity(total=10, of_provider={"maker": 3, "other": 3}.__getitem__)
    taken = harness.take([*arrivals, Arrival("X", "o1", 1)], capacity)
    assert names(taken) == ["B", "B", "B", "Y"]


def test_two_conductors_together_keep_to_a_provider_s_slots(open_ledger: OpenLedger) -> None:
    graph = graph_of(["A"], {"B": {"m_input": ["A"]}}, {"maker": {"max_concurrent": 1}})
    harnesses = [open_ledger(graph), open_ledger(graph)]
    harnesses[0].hold(None)
    harnesses[0].on_data(*[("A", f"o{number}", 1) for number in range(10)])
    harnesses[0].release(None)
    with ThreadPoolExecutor(2) as pool:
        taken = [request for found in pool.map(Harness.due, harnesses) for request in found]
    assert len(taken) == 1


def test_a_hold_and_its_release_keep_the_waits(open_ledger: OpenLedger) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    (request,) = harness.on_data(("A", "o1", 1))
    harness.report(request, State.FAILED, error="no luck")
    harness.hold(None)
    harness.release(None)
    assert harness.due() == []
    harness.clock.advance(1.1)
    assert harness.due() == ["B"]


def test_what_waits_to_be_retried_is_made_once_though_an_operator_asks_for_it(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(diamond())
    first, _ = harness.on_data(("A", "o1", 1))
    harness.report(first, State.FAILED, error="broken")
    assert harness.state(first) is State.RETRYING
    assert harness.due() == []
    row = harness.ledger.operations.make(first.product, "o1")
    assert row.id == first.processing_id
    assert harness.due() == [first.product]
    assert harness.ledger.operations.make(first.product, "o1").id != first.processing_id


@pytest.mark.parametrize(
    ("imported_as", "interface", "made"),
    [
        pytest.param("", Interface.REQUEST, True, id="under no id"),
        pytest.param("17", Interface.QUERY, True, id="under an id of its own"),
        pytest.param("", None, True, id="before it has answered"),
        pytest.param("", Interface.ATTEMPTS, False, id="by hand, beside one that passes ids on"),
    ],
)
def test_an_import_under_another_id_ends_the_processing_that_may_have_made_it(
    open_ledger: OpenLedger, imported_as: str, interface: Interface | None, *, made: bool
) -> None:
    harness = open_ledger(diamond())
    (b, _c) = harness.on_data(("A", "o1", 1))
    harness.report(b, State.RUNNING, interface=interface)
    version = Archived(
        processing_id=imported_as, product="B", obs_id="o1", provider=None, version=1
    )
    arrival = Arrival("B", "o1", 1, archived=True)
    harness.ledger.on_data([arrival], [version], UNLIMITED)
    assert harness.state(b) == (State.SUCCEEDED if made else State.RUNNING)
    again = harness.ledger.operations.make("B", "o1")
    assert harness.due() == ([] if not made else ["B"])
    # Delivered twice, it says nothing of what was requested since.
    harness.ledger.on_data([arrival], [version], UNLIMITED)
    found = harness.views.processing(again.id)
    assert found is not None
    assert not found.state.ended


def test_a_round_records_answers_and_what_is_sent_next_in_one_commit(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"], "max_attempts": 1}}))
    (first,) = harness.on_data(("A", "o1", 1))
    harness.take([Arrival("A", "o2", 1)], NOTHING)
    commits: list[object] = []
    sa.event.listen(harness.engine, "commit", commits.append)
    refused = Refused(processing_id=first.processing_id, asked_attempt=1, error="no")
    done = harness.ledger.advance([refused], UNLIMITED, UNLIMITED)
    assert len(commits) == 1
    (ended,) = done.ended
    assert isinstance(ended, sa.Row)
    assert (ended.id, ended.state) == (first.processing_id, State.FAILED)
    assert [request.obs_id for request in done.requests] == ["o2"]
    assert done.polls == []
    assert done.due_at is not None
    assert done.due_at > harness.clock.now


def test_what_a_pipeline_has_shown_is_recorded_with_the_end_of_its_processing(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(graph_of(["A"], {"B": {"m_input": ["A"]}}))
    (request,) = harness.on_data(("A", "o1", 1))
    id_ = request.processing_id
    answer = StatusUpdate(
        processing_id=id_,
        asked_attempt=1,
        attempt=1,
        state=State.RUNNING,
        interface=Interface.ATTEMPTS,
    )
    made = Archived(processing_id=id_, product="B", obs_id="o1", provider="maker")
    commits: list[object] = []
    sa.event.listen(harness.engine, "commit", commits.append)
    arrival = Arrival("B", "o1", 1, archived=True)
    _, told = harness.ledger.on_data([arrival], [made], UNLIMITED, (), [answer])
    assert len(commits) == 1
    # Whoever made it tells of a success.
    assert told == []
    assert harness.state(request) is State.SUCCEEDED
    found = harness.views.processing(id_)
    assert found is not None
    assert found.started is not None
    # The provider is known to count attempts: it recognises a request that is repeated.
    with harness.engine.begin() as connection:
        assert connection.scalar(COUNTS_ATTEMPTS, {"provider": "maker"}) == Interface.ATTEMPTS
