"""What follows from a version, and processings by patterns, on every kind of database."""

import pytest
import sqlalchemy as sa

from batuta.conductor.decisions.outcomes import HeardEvent
from batuta.conductor.decisions.rules import Arrival
from batuta.messaging import ProcessingState as State
from tests.conductor.graphs import graph_of
from tests.conductor.harness import UNLIMITED, Harness, OpenLedger

CHAIN = graph_of(["A"], {"B": {"m_input": ["A"]}, "C": {"m_input": ["B"]}})


def following(harness: Harness, version: int = 1) -> dict[str, object]:
    """Names of what follows from A, by what became of it."""
    found = harness.views.following("A", "o1", version)
    return {
        "done": found.done,
        **{
            part: [each.product for each in getattr(found, part)]
            for part in ("open", "made", "failed")
        },
    }


def test_what_follows_from_an_input_is_done_once_nothing_of_it_is_open(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(CHAIN)
    assert following(harness) == {"done": False, "open": [], "made": [], "failed": []}
    (b,) = harness.on_data(("A", "o1", 1))
    assert following(harness) == {"done": False, "open": ["B"], "made": [], "failed": []}
    harness.clock.advance(1)
    harness.report(b, State.SUCCEEDED)
    # Its product is archived, but not announced: C is not claimed yet.
    assert following(harness) == {"done": False, "open": ["B"], "made": [], "failed": []}
    (c,) = harness.on_data(("B", "o1", 1))
    assert following(harness) == {"done": False, "open": ["C"], "made": ["B"], "failed": []}
    harness.report(c, State.FAILED, error="broken")
    assert following(harness)["done"] is False  # it is retried
    harness.ledger.operations.cancel(c.processing_id, "by a person")
    assert following(harness) == {"done": True, "open": [], "made": ["B"], "failed": ["C"]}
    unheard = {"done": False, "open": [], "made": [], "failed": []}
    assert following(harness, version=2) == unheard


def test_a_version_that_is_heard_of_while_it_is_asked_for_is_not_done(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(CHAIN)
    to_come = [
        HeardEvent(
            id="e1", source="sdb", received=1.0, sequence=1, product="A", obs_id="o1", version=1
        )
    ]
    harness.on_data(("A", "other", 1))
    asked = following(harness)

    def hear(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if to_come and "FROM conductor_processings" in statement:
            harness.take([Arrival("A", "o1", 1)], UNLIMITED, [to_come.pop()])

    sa.event.listen(harness.engine, "after_cursor_execute", hear)
    assert following(harness) == asked
    assert following(harness) == {"done": False, "open": ["B"], "made": [], "failed": []}


def test_what_ended_before_a_newer_version_does_not_follow_from_it(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(CHAIN)
    (b,) = harness.on_data(("A", "o1", 1))
    harness.report(b, State.SUCCEEDED)
    harness.on_data(("B", "o1", 1))
    harness.clock.advance(10)
    harness.on_data(("A", "o1", 2))
    found = following(harness, version=2)
    assert "B" not in found["made"]  # type: ignore[operator]  # a list


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"obs_id": "sb25*"}, ["sb25a", "sb25b"]),
        ({"obs_id": "sb2?a"}, ["sb25a", "sb26a"]),
        ({"obs_id": "SB25*"}, []),
        ({"obs_id": "sb25a"}, ["sb25a"]),
        ({"obs_id": "sb25"}, []),
        ({"obs_id": "sb.5*"}, []),
        ({"product": "B*", "obs_id": "*26*"}, ["sb26a"]),
        ({"provider": "mak*", "obs_id": "*b"}, ["sb25b"]),
    ],
)
def test_processings_are_found_by_patterns(
    open_ledger: OpenLedger, filters: dict[str, str], expected: list[str]
) -> None:
    harness = open_ledger(CHAIN)
    for obs_id in ("sb25a", "sb25b", "sb26a"):
        harness.on_data(("A", obs_id, 1))
    found = harness.views.processings(dict(filters), 100, None).items
    assert sorted(each.obs_id for each in found) == expected


def test_a_misspelt_observation_is_suggested(open_ledger: OpenLedger) -> None:
    harness = open_ledger(CHAIN)
    for number in range(30):
        harness.on_data(("A", f"sb{number:08}", 1))
    answer = harness.views.why("B", "sb0000012").answer
    assert "nothing is known of sb0000012 (did you mean 'sb000000" in answer
    assert "nothing is known" not in harness.views.why("C", "sb00000012").answer
