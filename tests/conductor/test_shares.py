"""Shares: an alert is next whatever waits, and nothing waits for ever."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batuta.conductor.decisions.shares import Balance, next_class, share_out
from batuta.work_classes import DEFAULT_SHARES, WorkClass

ALERT, LIVE, REPROCESS, BACKFILL = WorkClass
CLASSES = st.sampled_from(WorkClass)
SHARES = st.fixed_dictionaries({each: st.integers(1, 200) for each in WorkClass})


@dataclass(frozen=True)
class Item:
    """What waits for a slot."""

    work_class: WorkClass
    number: int = 0


def wait_bound(work_class: WorkClass, shares: dict[WorkClass, int]) -> int:
    """The turns within which a class that waits has had one, whoever comes and goes."""
    total, own = sum(shares.values()), shares[work_class]
    return 2 * -(-total // own)


@given(SHARES, CLASSES, st.data())
def test_the_wait_of_any_class_is_bounded_whoever_comes_and_goes(
    shares: dict[WorkClass, int], waiting: WorkClass, data: st.DataObject
) -> None:
    others = sorted(set(WorkClass) - {waiting})
    comings = data.draw(st.lists(st.sets(st.sampled_from(others)), min_size=1, max_size=8))
    balance: Balance = {}
    # What came before the class waited.
    for due in data.draw(st.lists(st.sets(CLASSES, min_size=1), max_size=20)):
        _, balance = next_class(due, balance, shares)
    for turn in range(wait_bound(waiting, shares) + 1):
        chosen, balance = next_class({waiting, *comings[turn % len(comings)]}, balance, shares)
        if chosen is waiting:
            return
    pytest.fail(f"{waiting} has had no turn in {wait_bound(waiting, shares)}")


@given(SHARES, st.sets(CLASSES, min_size=1))
def test_while_all_wait_each_has_exactly_its_share(
    shares: dict[WorkClass, int], due: set[WorkClass]
) -> None:
    balance: Balance = {}
    turns: Counter[WorkClass] = Counter()
    for _ in range(sum(shares[each] for each in due)):
        chosen, balance = next_class(due, balance, shares)
        turns[chosen] += 1
    assert turns == {each: shares[each] for each in due}


@given(
    st.lists(st.builds(Item, CLASSES, st.integers(0, 9)), max_size=30),
    st.integers(0, 40),
    st.dictionaries(CLASSES, st.integers(0, 10)),
    SHARES,
)
def test_slots_are_never_left_free_nor_limits_exceeded(
    waiting: list[Item],
    slots: int,
    limits: dict[WorkClass, int],
    shares: dict[WorkClass, int],
) -> None:
    chosen, _ = share_out(waiting, slots, limits, {}, shares)
    there, taken = (Counter(each.work_class for each in some) for some in (waiting, chosen))
    may = {each: min(there[each], limits.get(each, slots)) for each in WorkClass}
    assert len(chosen) == min(slots, sum(may.values()))
    assert all(taken[each] <= may[each] for each in WorkClass)
    for each in WorkClass:
        in_order = [item for item in waiting if item.work_class is each]
        assert [item for item in chosen if item.work_class is each] == in_order[: taken[each]]


def test_an_alert_is_next_in_front_of_any_backlog() -> None:
    balance: Balance = {}
    for _ in range(1000):
        _, balance = next_class({LIVE, REPROCESS, BACKFILL}, balance, DEFAULT_SHARES)
        chosen, _ = next_class(set(WorkClass), balance, DEFAULT_SHARES)
        assert chosen is ALERT


def test_fairness_in_figures(record_property: Callable[[str, object], None]) -> None:
    """Record how long each class waits while all have a backlog (``--junit-xml``)."""
    balance: Balance = {}
    last = dict.fromkeys(WorkClass, 0)
    longest: Counter[WorkClass] = Counter()
    turns: Counter[WorkClass] = Counter()
    for turn in range(1, 8501):
        chosen, balance = next_class(set(WorkClass), balance, DEFAULT_SHARES)
        longest[chosen] = max(longest[chosen], turn - last[chosen])
        last[chosen] = turn
        turns[chosen] += 1
    for each in WorkClass:
        # Its value: xdist sends no enum from a process to another.
        record_property(each.value, f"{turns[each]} of 8500 turns, at most {longest[each]} apart")
    assert turns == {each: 100 * share for each, share in DEFAULT_SHARES.items()}
    assert longest[BACKFILL] <= sum(DEFAULT_SHARES.values())
