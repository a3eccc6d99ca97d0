"""Which instance of a provider is sent which request."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from batuta.conductor.decisions.instances import InstanceLoad, places


def addresses(number: int, *loads: InstanceLoad) -> list[str]:
    return [each.address for each in places(number, loads)]


def test_requests_go_where_there_is_most_room() -> None:
    loads = [InstanceLoad("a", 1, 1), InstanceLoad("b", 3, 3), InstanceLoad("c", 2, 2)]
    assert addresses(6, *loads) == ["b", "b", "c", "a", "b", "c"]


def test_without_limits_they_go_where_there_is_least_to_do() -> None:
    loads = [InstanceLoad("a", -3, 32), InstanceLoad("b", -1, 32)]
    assert addresses(4, *loads) == ["b", "b", "a", "b"]


def test_a_trial_is_made_with_what_is_least_urgent_and_once() -> None:
    loads = [InstanceLoad("tried", 9, 1, trial=True), InstanceLoad("a", 1, 5)]
    assert addresses(3, *loads) == ["a", "a", "tried"]
    assert addresses(1, *loads) == ["tried"]


def test_an_instance_that_is_left_alone_is_sent_nothing() -> None:
    loads = [InstanceLoad("open", 9, 0), InstanceLoad("full", 9, 0, trial=True)]
    assert addresses(2, *loads, InstanceLoad("a", -5, 2)) == ["a", "a"]


@st.composite
def some_loads(draw: st.DrawFn) -> list[InstanceLoad]:
    numbers = st.integers(0, 5)
    return [
        InstanceLoad(f"i{index}", draw(numbers), 1 if trial else draw(numbers), trial)
        for index, trial in enumerate(draw(st.lists(st.booleans(), min_size=1, max_size=6)))
    ]


@given(some_loads(), st.data())
def test_no_instance_is_sent_more_than_it_is_free_for(
    loads: list[InstanceLoad], data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, sum(each.free for each in loads)))
    sent = Counter(addresses(number, *loads))
    assert sent.total() == number
    assert all(sent[each.address] <= each.free for each in loads)
