"""Holds as decisions: what they cover, and how fast what they keep back is let go."""

from dataclasses import replace
from typing import Any

import pytest

from batuta.conductor.decisions.holds import (
    Hold,
    HoldState,
    Scope,
    let_go,
    pause_of,
    rate_per_s,
    release,
    standing,
)
from batuta.messaging import ProcessingState as State
from batuta.work_classes import WorkClass
from tests.conductor.processing_records import RUNNING

IN_FORCE = Hold(number=3, scope=Scope(product="B"), begins=100.0, placed=90.0, by="operator ana")
WAITING = replace(RUNNING, state=State.HELD, attempt=0, held_by=3)


@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        ({}, True),
        ({"provider": "maker"}, True),
        ({"product": "B"}, True),
        ({"obs_id": "o1"}, True),
        ({"work_class": WorkClass.LIVE}, True),
        ({"campaign": 7}, True),
        ({"provider": "maker", "product": "B", "work_class": WorkClass.LIVE}, True),
        ({"campaign": 8}, False),
        ({"provider": "maker", "campaign": 8}, False),
        ({"provider": "other"}, False),
        ({"product": "C"}, False),
        ({"obs_id": "o2"}, False),
        ({"work_class": WorkClass.BACKFILL}, False),
        ({"provider": "maker", "work_class": WorkClass.BACKFILL}, False),
    ],
)
def test_a_hold_covers_what_has_all_that_it_names(scope: dict[str, Any], covered: bool) -> None:
    work = replace(RUNNING, provider="maker", product="B", obs_id="o1", campaign=7)
    assert Scope(**scope).covers(work) is covered


def test_a_hold_keeps_back_from_its_time_on_until_it_is_released() -> None:
    assert IN_FORCE.state(99.0) is HoldState.SCHEDULED
    assert not IN_FORCE.catches(99.0)
    assert IN_FORCE.state(100.0) is HoldState.IN_FORCE
    assert IN_FORCE.catches(100.0)
    released = release(replace(IN_FORCE, applied=True), 200.0, "operator bob", "10/min")
    assert released.state(200.0) is HoldState.RELEASING
    assert not released.catches(200.0)
    never = release(IN_FORCE, 99.0, "operator bob")
    assert never.state(300.0) is HoldState.RELEASED


def test_what_is_not_marked_yet_does_not_escape_a_rate() -> None:
    assert release(IN_FORCE, 200.0, "bob", "10/min").catches(200.0)
    assert not release(IN_FORCE, 200.0, "bob").catches(200.0)


def test_a_command_that_is_repeated_places_no_second_hold_but_another_person_does() -> None:
    again = replace(IN_FORCE, number=0, begins=120.0, placed=120.0)
    assert standing([IN_FORCE], again) is IN_FORCE
    others: tuple[dict[str, Any], ...] = (
        {"by": "operator bob"},
        {"reason": "moon"},
        {"scope": Scope()},
        {"begins": 500.0},
    )
    for other in others:
        assert standing([IN_FORCE], replace(again, **other)) is None
    assert standing([replace(IN_FORCE, released=110.0)], again) is None


def test_an_operators_hold_of_a_paused_campaign_is_another_one_than_its_pause() -> None:
    pause = pause_of(7, "operator ana", None, 100.0)
    wanted = replace(IN_FORCE, number=0, scope=Scope(campaign=7), reason=None)
    assert standing([replace(pause, number=3)], wanted) is None
    assert (pause.what, pause.remedy) == ("campaign 7 (paused)", "batuta campaign resume 7")
    named = replace(wanted, number=4)
    assert (named.what, named.remedy) == ("campaign 7", "batuta release --hold 4")


@pytest.mark.parametrize(
    ("rate", "per_s"), [("10/min", 1 / 6), ("2/s", 2.0), ("36/h", 0.01), ("864/d", 0.01)]
)
def test_rates_are_a_number_and_a_unit(rate: str, per_s: float) -> None:
    assert rate_per_s(rate) == pytest.approx(per_s)


@pytest.mark.parametrize(
    "rate", ["", "10", "0/min", "-1/s", "1.5/min", "10/week", "10 / min", "٣/s"]
)
def test_other_rates_are_refused_with_what_is_accepted(rate: str) -> None:
    with pytest.raises(ValueError, match="as 10/min"):
        rate_per_s(rate)


@pytest.mark.parametrize(
    ("waited_s", "gone"),
    [(0.0, 1), (0.9, 1), (6.0, 1), (3600.0, 1), (-3600.0, 0)],
    ids=["at once", "a little late", "missed one", "down for an hour", "clock set back"],
)
def test_a_rate_holds_whatever_the_conductor_and_its_clock_did(waited_s: float, gone: int) -> None:
    released = replace(release(IN_FORCE, 200.0, "bob", "10/min"), applied=True)
    step = let_go(released, [WAITING] * 10, [], 200.0 + waited_s)
    assert [after.state for _, after in step.changes] == [State.WAITING] * gone
    # Another look at the same time lets nothing more go.
    later = replace(released, next_at=step.next_at)
    assert let_go(later, [WAITING] * 10, [], 200.0 + waited_s).changes == []
    assert step.next_at <= 200.0 + waited_s + 6.0


@pytest.mark.parametrize(("waited_s", "gone"), [(0.0, 1), (0.5, 51), (1.0, 101), (60.0, 101)])
def test_at_a_high_rate_several_go_at_once_and_no_more_than_in_a_second(
    waited_s: float, gone: int
) -> None:
    released = replace(release(IN_FORCE, 200.0, "bob", "100/s"), applied=True)
    assert len(let_go(released, [WAITING] * 500, [], 200.0 + waited_s).changes) == gone


def test_without_a_rate_all_is_let_go() -> None:
    released = release(IN_FORCE, 200.0, "bob")
    assert len(let_go(released, [WAITING] * 10, [], 200.0).changes) == 10


def test_what_another_hold_covers_goes_over_to_it_at_no_cost_to_the_rate() -> None:
    released = replace(release(IN_FORCE, 200.0, "bob", "10/min"), applied=True)
    other = replace(IN_FORCE, number=7, scope=Scope(obs_id="kept"))
    first = [replace(WAITING, obs_id="kept")] * 3 + [WAITING] * 2
    step = let_go(released, first, [released, other], 200.0)
    assert [(after.state, after.held_by) for _, after in step.changes] == [
        (State.HELD, 7),
        (State.HELD, 7),
        (State.HELD, 7),
        (State.WAITING, 3),
    ]
