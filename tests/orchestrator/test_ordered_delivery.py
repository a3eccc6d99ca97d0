"""Tiles are delivered in the order of the grid, in whatever order they are computed."""

import random

from hypothesis import given
from hypothesis import strategies as st

from batuta.orchestrator.ordered_delivery import OrderedDelivery


def expecting(count: int) -> OrderedDelivery[int, str]:
    delivery: OrderedDelivery[int, str] = OrderedDelivery()
    for place in range(count):
        delivery.expect(place)
    return delivery


def test_a_tile_that_comes_early_waits_for_those_before_it() -> None:
    delivery = expecting(3)
    assert list(delivery.add(1, "b")) == []
    assert list(delivery.add(0, "a")) == [(0, "a"), (1, "b")]
    assert list(delivery.add(2, "c")) == [(2, "c")]


def test_a_skipped_tile_does_not_hold_the_others_back() -> None:
    delivery = expecting(3)
    assert list(delivery.add(2, "c")) == []
    assert list(delivery.skip(0)) == []
    assert list(delivery.skip(1)) == [(2, "c")]


def test_a_tile_that_is_none_is_delivered_in_order_too() -> None:
    delivery: OrderedDelivery[int, str | None] = OrderedDelivery()
    delivery.expect(0)
    delivery.expect(1)
    assert list(delivery.add(1, "b")) == []
    assert list(delivery.add(0, None)) == [(0, None), (1, "b")]


@given(st.lists(st.booleans(), max_size=40), st.integers())
def test_all_tiles_come_out_once_and_in_order(failed: list[bool], seed: int) -> None:
    delivery = expecting(len(failed))
    order = list(range(len(failed)))
    random.Random(seed).shuffle(order)  # noqa: S311 - not a secret
    out: list[int] = []
    for place in order:
        due = delivery.skip(place) if failed[place] else delivery.add(place, str(place))
        out += [each for each, _ in due]
    assert out == [place for place, lost in enumerate(failed) if not lost]
