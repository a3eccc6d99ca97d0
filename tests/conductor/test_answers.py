"""What is understood of the answers of pipelines that others wrote."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batuta.conductor.decisions.answers import PipelineAnswer, read_answer, state_of
from batuta.messaging import ProcessingState as State


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("accepted", State.QUEUED),  # OGC API Processes
        ("running", State.RUNNING),
        ("successful", State.SUCCEEDED),
        ("failed", State.FAILED),
        ("dismissed", State.CANCELLED),
        ("EXECUTING", State.RUNNING),  # UWS
        ("COMPLETED", State.SUCCEEDED),
        ("ERROR", State.FAILED),
        ("finished", State.SUCCEEDED),  # openEO
        ("SUCCESS", State.SUCCEEDED),  # Celery
        ("REVOKED", State.CANCELLED),
        ("NODE_FAIL", State.FAILED),  # Slurm
        ("in progress", State.RUNNING),
        ("In-Progress", State.RUNNING),
        ("done", State.SUCCEEDED),
        ("cooking", None),
        (7, None),
        (None, None),
    ],
)
def test_states_are_understood_however_they_are_spelt(word: object, state: State | None) -> None:
    assert state_of(word) is state


@pytest.mark.parametrize("state", [each for each in State if each.name in "QUEUED RUNNING FAILED"])
def test_our_own_states_are_among_them(state: State) -> None:
    assert state_of(state.value) is state


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"jobID": "7", "status": "running"}, {"ids": ("7",), "state": State.RUNNING}),
        ({"Job-Id": 7, "phase": "Pending"}, {"ids": ("7",), "state": State.QUEUED}),
        ({"status": {"phase": "Succeeded"}}, {"state": State.SUCCEEDED}),
        ({"data": {"job": {"id": "7"}}}, {"ids": ("7",)}),
        ([{"id": "7", "state": "done"}], {"ids": ("7",), "state": State.SUCCEEDED}),
        ([{"id": "7"}, {"id": "8"}], {}),
        ({"a": {"id": "7"}, "b": {"id": "8"}}, {}),
        ("7", {"ids": ("7",)}),
        (7, {"ids": ("7",)}),
        ("accepted", {"state": State.QUEUED}),
        ({"id": True, "state": 202}, {}),
        ({"id": "x" * 501}, {}),
        ({"id": "a\x1b"}, {}),
        ({"attempt": 0, "detail": "not found"}, {"attempt": 0, "error": "not found"}),
        (
            {"status": "failed", "error": {"code": 3, "message": "no sky"}},
            {"state": State.FAILED, "error": "no sky"},
        ),
        ({"status": "running", "progress": 40}, {"state": State.RUNNING, "done": 40, "total": 100}),
        (
            {"status": "running", "progress": {"done": 2, "total": 5}},
            {"state": State.RUNNING, "done": 2, "total": 5},
        ),
        ({"status": "running", "started": "yesterday"}, {"state": State.RUNNING}),
    ],
)
def test_an_answer_is_understood_in_whatever_form_it_comes(
    document: object, expected: dict[str, Any]
) -> None:
    assert read_answer(json.dumps(document).encode()) == PipelineAnswer(**expected)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "state", "status", "error", "progress", "started", "attempt"])
            | st.text(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(json_values)
def test_no_answer_is_refused(document: object) -> None:
    answer = read_answer(json.dumps(document).encode())
    assert all(each.isprintable() for each in answer.ids)
    assert 0 <= answer.done < 2**31


@given(st.binary())
def test_what_is_not_json_says_nothing(content: bytes) -> None:
    read_answer(content)
