"""Tables: what changes is sent once, and who was away for a moment misses nothing."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batuta.dashboard import live_table
from batuta.dashboard.live_table import Frame, LiveTable

KEYS = st.sampled_from("abcd")
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.integers(0, 3)),
        st.tuples(st.just("remove"), KEYS, st.just(0)),
        st.tuples(st.just("frame"), st.just(""), st.just(0)),
    ),
    max_size=60,
)


def applied(values: dict[str, Any], frame: Frame) -> dict[str, Any]:
    changed = {**values, **json.loads(frame.body)}
    return {key: value for key, value in changed.items() if value is not None}


@given(CHANGES, st.integers(0, 60))
def test_a_snapshot_and_the_frames_after_it_give_what_the_table_has(
    changes: list[tuple[str, str, int]], when: int
) -> None:
    table = LiveTable()
    seen: dict[str, Any] = {}
    number = 0
    for position, (action, key, value) in enumerate(changes):
        if position == when:
            snapshot = table.snapshot()
            seen, number = json.loads(snapshot.body), snapshot.number
        if action == "set":
            table.set(key, value)
        elif action == "remove":
            table.remove(key)
        else:
            table.end_frame()
    table.end_frame()
    frames = table.since(number)
    assert frames is not None
    for frame in frames:
        seen = applied(seen, frame)
    assert seen == json.loads(table.snapshot().body)


def test_a_value_that_is_set_again_makes_no_frame() -> None:
    table = LiveTable()
    table.set("a", 1)
    assert table.end_frame() == Frame(1, b'{"a":1}')
    table.set("a", 1)
    table.remove("b")
    assert table.end_frame() is None


def test_frames_that_are_not_kept_any_more_are_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_table, "MAX_KEPT_BYTES", 30)
    table = LiveTable()
    for number in range(10):
        table.set("a", number)
        table.end_frame()
    assert table.since(0) is None
    assert table.since(11) is None
    kept = table.since(7)
    assert kept is not None
    assert [frame.number for frame in kept] == [8, 9, 10]
    assert table.since(10) == []
