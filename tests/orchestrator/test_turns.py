"""Tiles wait for their turn, whatever the order of arrival."""

import random

from hypothesis import given
from hypothesis import strategies as st

from batuta.orchestrator.ordered_delivery import Turns


def turns_of(count: int) -> Turns[int, str]:
    turns: Turns[int, str] = Turns()
    for place in range(count):
        turns.expect(place)
    return turns


def test_a_tile_that_comes_early_waits_for_those_before_it() -> None:
    turns = turns_of(3)
    assert list(turns.take(1, "b")) == []
    assert list(turns.take(0, "a")) == [(0, "a"), (1, "b")]
    assert list(turns.take(2, "c")) == [(2, "c")]


def test_a_tile_that_is_given_up_holds_nobody_back() -> None:
    turns = turns_of(3)
    assert list(turns.take(2, "c")) == []
    assert list(turns.give_up(0)) == []
    assert list(turns.give_up(1)) == [(2, "c")]


def test_an_empty_tile_has_its_turn_too() -> None:
    turns: Turns[int, str | None] = Turns()
    turns.expect(0)
    turns.expect(1)
    assert list(turns.take(1, "b")) == []
    assert list(turns.take(0, None)) == [(0, None), (1, "b")]


@given(st.lists(st.booleans(), max_size=40), st.integers())
def test_all_tiles_come_out_once_and_in_order(failed: list[bool], seed: int) -> None:
    turns = turns_of(len(failed))
    order = list(range(len(failed)))
    random.Random(seed).shuffle(order)  # noqa: S311 - not a secret
    out: list[int] = []
    for place in order:
        due = turns.give_up(place) if failed[place] else turns.take(place, str(place))
        out += [each for each, _ in due]
    assert out == [place for place, lost in enumerate(failed) if not lost]
