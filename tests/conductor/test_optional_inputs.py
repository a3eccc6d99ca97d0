"""Optional inputs in the ledger: how long they are waited for, and what late ones do."""

import pytest

from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.graph import Graph
from batuta.messaging import ProcessingState as State
from tests.conductor.graphs import graph_of
from tests.conductor.harness import Harness, OpenLedger


def names(requests: list[DueRequest]) -> list[str]:
    return [request.product for request in requests]


def _waiting(start: str) -> Graph:
    """``R`` waits 60 s for ``O``, which is expected; ``Z`` is another input."""
    graph = graph_of(
        ["A", "O", "Z"],
        {
            "R": {"m_input": ["A"], "o_input": ["O"], "o_wait": 60, "o_wait_from": start},
            "S": {"m_input": ["Z"]},
        },
    )
    return Graph.parse({**graph.as_document(), "expected": ["O"]})


@pytest.mark.parametrize(
    ("start", "waits_s"), [("complete", 60), ("first_input", 40), ("last_input", 90)]
)
def test_an_expected_input_is_waited_for_from_where_the_graph_says(
    open_ledger: OpenLedger, start: str, waits_s: int
) -> None:
    harness = open_ledger(_waiting(start))
    harness.on_data(("Z", "o1", 1))
    harness.clock.advance(20)
    assert names(harness.on_data(("A", "o1", 1))) == []
    harness.clock.advance(30)
    # Another input of the observation: it feeds nothing that waits.
    assert names(harness.on_data(("Z", "o1", 2))) == []
    harness.clock.advance(waits_s - 30 - 1)
    assert harness.due() == []
    harness.clock.advance(2)
    assert harness.due() == ["R"]


@pytest.mark.parametrize("start", ["complete", "first_input", "last_input"])
def test_an_expected_input_that_arrives_ends_the_wait(open_ledger: OpenLedger, start: str) -> None:
    harness = open_ledger(_waiting(start))
    harness.on_data(("A", "o1", 1))
    (report,) = harness.on_data(("O", "o1", 1))
    found = harness.views.processing(report.processing_id)
    assert found is not None
    assert found.inputs == {"A": 1, "O": 1}


def test_a_late_input_improves_what_was_made_without_it_once(open_ledger: OpenLedger) -> None:
    graph = graph_of(
        ["A", "O", "P"],
        {"R": {"m_input": ["A"], "o_input": ["O", "P"], "on_late": "improve"}},
    )
    harness = open_ledger(graph)
    (first,) = harness.on_data(("A", "o1", 1))
    harness.report(first, State.SUCCEEDED)
    harness.on_data(("R", "o1", 1))
    (second,) = harness.on_data(("O", "o1", 1))
    assert names(harness.on_data(("O", "o1", 1))) == []
    # While it is at its pipeline, further ones join the next claim.
    assert names(harness.on_data(("P", "o1", 1))) == []
    harness.report(second, State.SUCCEEDED)
    assert harness.due() == ["R"]
    found = harness.views.processings({"product": "R"}, 10, None).items
    claimed = sorted((each.inputs for each in found), key=len)
    assert claimed == [{"A": 1}, {"A": 1, "O": 1}, {"A": 1, "O": 1, "P": 1}]


def test_inputs_that_arrive_before_the_request_join_the_claim(open_ledger: OpenLedger) -> None:
    graph = graph_of(
        ["A", "O"],
        {"R": {"m_input": ["A"], "o_input": ["O"], "on_late": "improve"}},
        {"maker": {"max_concurrent": 1}},
    )
    harness = open_ledger(graph)
    (busy,) = harness.on_data(("A", "o0", 1))
    assert names(harness.on_data(("A", "o1", 1))) == []
    assert names(harness.on_data(("O", "o1", 1))) == []
    harness.report(busy, State.SUCCEEDED)
    assert harness.due() == ["R"]
    of_o1 = harness.views.processings({"obs_id": "o1"}, 10, None).items
    assert [each.inputs for each in of_o1] == [{"A": 1, "O": 1}]


def test_why_says_how_many_optional_inputs_lack(open_ledger: OpenLedger) -> None:
    graph = graph_of(["A", "O", "P"], {"R": {"m_input": ["A"], "o_input": ["O", "P"], "o_min": 2}})
    harness = open_ledger(graph)
    harness.on_data(("A", "o1", 1), ("P", "o1", 1))
    answer = harness.views.why("R", "o1").answer
    assert answer == (
        "R was not made: it lacks 1 more of its optional inputs (O, which has not arrived)"
    )


def _retried_with_another_input(harness: Harness) -> tuple[DueRequest, DueRequest]:
    """Fail an attempt to make ``R`` from ``A``; the next one takes ``O``, too."""
    (first,) = harness.on_data(("A", "o1", 1))
    harness.report(first, State.FAILED, error="no answer")
    assert harness.on_data(("O", "o1", 1)) == []
    harness.clock.advance(60)
    (second,) = harness.take_due()
    assert second.processing_id == first.processing_id
    assert inputs_of(harness, second) == {"A": 1, "O": 1}
    return first, second


def inputs_of(harness: Harness, request: DueRequest) -> dict[str, int]:
    found = harness.views.processing(request.processing_id)
    assert found is not None
    return found.inputs


def _waits_for_an_optional_input(**more: object) -> Graph:
    return graph_of(
        ["A", "O", "P"],
        {"R": {"m_input": ["A"], "o_input": ["O", "P"], "o_wait": 60, **more}},
    )


def test_an_attempt_that_was_given_up_and_ends_late_is_recorded_with_the_inputs_that_it_had(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(_waits_for_an_optional_input())
    first, _second = _retried_with_another_input(harness)
    assert harness.make(first, "R", 1) == []
    assert harness.state(first) is State.SUCCEEDED
    assert inputs_of(harness, first) == {"A": 1}
    # Announced once more, it changes nothing.
    assert harness.make(first, "R", 1) == []
    assert inputs_of(harness, first) == {"A": 1}
    assert harness.due() == []


def test_the_attempt_that_was_requested_with_an_input_is_recorded_with_it(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(_waits_for_an_optional_input())
    _first, second = _retried_with_another_input(harness)
    assert harness.make(second, "R", 1) == []
    assert inputs_of(harness, second) == {"A": 1, "O": 1}
    assert harness.due() == []


def test_each_late_attempt_is_recorded_with_its_own_inputs(open_ledger: OpenLedger) -> None:
    harness = open_ledger(_waits_for_an_optional_input(max_attempts=5))
    _first, second = _retried_with_another_input(harness)
    harness.report(second, State.FAILED, error="no answer")
    assert harness.on_data(("P", "o1", 1)) == []
    assert inputs_of(harness, second) == {"A": 1, "O": 1, "P": 1}
    assert harness.make(second, "R", 1) == []
    assert inputs_of(harness, second) == {"A": 1, "O": 1}


def test_a_late_attempt_is_recorded_with_the_version_that_failed_and_was_corrected_since(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(graph_of(["A"], {"R": {"m_input": ["A"], "max_attempts": 1}}))
    (first,) = harness.on_data(("A", "o1", 1))
    harness.report(first, State.FAILED, error="no answer")
    (second,) = harness.on_data(("A", "o1", 2))
    assert inputs_of(harness, second) == {"A": 2}
    assert harness.make(first, "R", 1) == []
    assert inputs_of(harness, first) == {"A": 1}
