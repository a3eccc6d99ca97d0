"""Every event ends as triggered, waiting for, or ignored because; and that is recorded once."""

import contextlib
import json
from typing import Any

import pytest

from batuta.cli.app import run
from batuta.conductor.database.event_records import drop_events, last_to_drop
from batuta.conductor.database.views.event_views import EventView, EventViews
from batuta.conductor.decisions.events import Refused
from batuta.conductor.decisions.outcomes import HeardEvent, Outcome
from batuta.conductor.decisions.rules import Arrival
from batuta.conductor.service import open_conductor
from tests.conductor.graphs import graph_of
from tests.conductor.harness import UNLIMITED, Harness, OpenLedger
from tests.conductor.stage import Stage, get
from tests.support.services import serving
from tests.support.waiting import eventually_sync

GRAPH = graph_of(
    ["A", "X", "Y"],
    {
        "B": {"m_input": ["A"], "on_update": "reprocess"},
        "C": {"m_input": ["A"]},
        "D": {"m_input": ["X", "Y"]},
        "E": {"m_input": ["C"]},
    },
)


class Hearing:
    """A ledger that hears one event after the other."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.views = EventViews(harness.engine, harness.graph, harness.views)
        self.heard = 0

    def hear(self, product: str, version: int = 1, **given: Any) -> EventView:
        """Receive an event of `o1`; return what became of it."""
        self.harness.clock.advance(1)
        self.heard += 1
        values = {"id": f"e{self.heard}", "sequence": self.heard, **given}
        event = HeardEvent(
            source="vhf",
            received=1e9 + values["sequence"],
            product=product,
            obs_id="o1",
            version=version,
            **values,
        )
        arrivals = [] if event.problem else [Arrival(product, "o1", version, stage=event.stage)]
        self.harness.take(arrivals, UNLIMITED, [event])
        found = self.views.outcome_of_message(event.sequence, 0.0)
        assert found is not None
        return found


@pytest.fixture
def hearing(open_ledger: OpenLedger) -> Hearing:
    return Hearing(open_ledger(GRAPH))


def test_an_event_triggers_what_can_be_made_of_it_now(hearing: Hearing) -> None:
    event = hearing.hear("A")
    assert event.outcome is Outcome.TRIGGERED
    assert list(event.triggered) == ["B", "C"]
    detail = hearing.views.find("e1")
    assert detail is not None
    assert {each.id for each in detail.processings} == set(event.triggered.values())


def test_an_event_waits_for_the_other_inputs_which_then_trigger(hearing: Hearing) -> None:
    first = hearing.hear("X")
    assert (first.outcome, first.waiting) == (Outcome.WAITING, {"D": ["Y"]})
    assert list(hearing.hear("Y").triggered) == ["D"]
    detail = hearing.views.find("e1")
    assert detail is not None
    assert detail.lacking == {"D": []}


@pytest.mark.parametrize(
    ("before", "event", "reason"),
    [
        ([("A", 1)], ("A", 1), "B was claimed before; C was claimed before"),
        ([("A", 2)], ("A", 1), "version 2 of A is available, which is newer"),
        ([("C", 1)], ("E", 1), "no product of the graph is made from E"),
        ([("E", 1), ("C", 1)], ("C", 2), "E is available, and made once (on_update: ignore)"),
    ],
)
def test_an_event_that_nothing_follows_from_says_why(
    hearing: Hearing, before: list[tuple[str, int]], event: tuple[str, int], reason: str
) -> None:
    for each in before:
        hearing.hear(*each)
    found = hearing.hear(*event)
    assert (found.outcome, found.reason) == (Outcome.IGNORED, reason)


def test_a_newer_version_triggers_only_what_is_made_again_or_had_failed(hearing: Hearing) -> None:
    first = hearing.hear("A", 1)
    assert list(hearing.hear("A", 2).triggered) == ["B"]
    hearing.harness.apply(Refused(processing_id=first.triggered["C"], error="bad input"))
    assert list(hearing.hear("A", 3).triggered) == ["B", "C"]


def test_an_event_delivered_again_keeps_what_was_decided_first(hearing: Hearing) -> None:
    first = hearing.hear("A", id="once", sequence=7)
    assert hearing.hear("A", id="once", sequence=7) == first
    detail = hearing.views.find("once")
    assert detail is not None
    assert detail.repeats == []
    # Published once more under its id, it is a repeat, which causes nothing.
    hearing.hear("A", id="once", sequence=8)
    detail = hearing.views.find("once")
    assert detail is not None
    assert (detail.outcome, len(detail.repeats)) == (Outcome.TRIGGERED, 1)


def test_the_oldest_events_are_dropped_by_age_and_by_number(hearing: Hearing) -> None:
    for _ in range(5):
        hearing.hear("A")
    engine = hearing.harness.engine
    with engine.begin() as connection:
        assert last_to_drop(connection, 0.0, 5) is None
        by_number = last_to_drop(connection, 0.0, 3)
        assert by_number == (1e9 + 2, 2)
        assert last_to_drop(connection, 1e9 + 2, 100) == (1e9 + 1, 1)
        assert drop_events(connection, by_number) == 2
        assert drop_events(connection, by_number) == 0
    left = hearing.views.page({}, None, None, 10, None).items
    assert [each.id for each in left] == ["e5", "e4", "e3"]


@pytest.mark.usefixtures("wide_terminal")
def test_events_are_listed_by_what_became_of_them_and_found_by_their_id(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(open_conductor, stage.settings(GRAPH)) as url:
        monkeypatch.setenv("BATUTA_CONDUCTOR_URL", url)
        long_id = "x" * 5000
        envelope = {"specversion": "1.0", "source": "s", "type": "batuta.data.available"}
        stage.publish(
            "data.vhf",
            b"\xff not json",
            b'{"product": "X", "obs_id": "o1"}',
            json.dumps({**envelope, "id": "a/b c\0", "data": {"product": "A"}}).encode(),
            json.dumps(
                {**envelope, "id": long_id, "data": {"product": "Q", "obs_id": "o1"}}
            ).encode(),
        )
        stage.archive("A", "o1")
        stage.publish("data.sdb", b'{"product": "A", "obs_id": "o7"}')

        def outcomes() -> dict[str, int]:
            found = [each["outcome"] for each in get(url, "/events?limit=1000")["items"]]
            return {outcome: found.count(outcome) for outcome in sorted(set(found))}

        # C and B, once made, are announced: E follows from C.
        expected = {"ignored": 6, "triggered": 2, "waiting": 1}
        with contextlib.suppress(AssertionError):
            eventually_sync(lambda: outcomes() == expected)
        assert outcomes() == expected, get(url, "/events?limit=1000")

        assert run(["events", "--outcome=ignored", "--json"]) == 0
        ignored = json.loads(capsys.readouterr().out)
        reasons = " ".join(each["reason"] for each in ignored)
        for part in ("Invalid JSON", "obs_id: Field required", "'Q' of o1: not in the graph"):
            assert part in reasons
        assert "A of o7: the sdb does not hold a version of it" in reasons
        assert [each["id"] for each in ignored if each["id"].startswith("x")] == ["x" * 300]

        assert run(["events", "--obs-id=o1", "--source=vhf", "--since=1h", "--product=X"]) == 0
        assert "D waits for Y" in capsys.readouterr().out
        (of_a,) = get(url, "/events?source=sdb&product=A&obs_id=o1")["items"]
        assert run(["events", of_a["id"]]) == 0
        shown = capsys.readouterr().out
        assert "triggered: B, C" in shown
        assert "C is now succeeded" in shown

        assert run(["events", "nowhere"]) == 1
        assert "event 'nowhere': not found" in capsys.readouterr().err
        for wrong in (["--outcome=lost"], ["--since=yesterday"], ["e1", "--product=A"]):
            assert run(["events", *wrong]) == 2
            assert "accepted: " in capsys.readouterr().err
