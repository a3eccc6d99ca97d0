"""What JSON, UTF-8 and every supported database can carry."""

import json
import math
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batuta.json_values import MAX_DEPTH, MAX_INTEGER, carriable, json_problem, text_problem


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


REFUSED = {
    "metadata.from: contains a lone surrogate, which UTF-8 cannot encode": {
        "from": os.fsdecode(b"caf\xe9.csv")
    },
    "metadata.a.1: contains NUL": {"a": ["", "\0"]},
    "metadata: key 'a\\x00' contains NUL": {"a\0": 1},
    "metadata: key 1 is not a string": {1: 2},
    "metadata.x: inf is not a JSON number": {"x": math.inf},
    "metadata.x: nan is not a JSON number": {"x": math.nan},
    "metadata.x: larger than 64 bits": {"x": MAX_INTEGER + 1},
    f"metadata: nested deeper than {MAX_DEPTH} levels": {"x": nested(260)},
    "metadata.x: an object is not a JSON value": {"x": object()},
}


@pytest.mark.parametrize("expected", REFUSED)
def test_what_cannot_be_carried_is_named_with_its_place(expected: str) -> None:
    assert json_problem(REFUSED[expected], "metadata") == expected


def test_what_can_be_carried_is_accepted() -> None:
    value = {"a": [1, -MAX_INTEGER - 1, 1.5, True, None, "é", ""], "b": nested(MAX_DEPTH - 1)}
    assert json_problem(value, "metadata") is None


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
values = st.recursive(
    scalars | st.text(st.characters(categories=["Cs", "Cc", "L"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
)


@given(st.dictionaries(st.text(st.characters(categories=["Cs", "L"])), values))
def test_what_is_accepted_can_be_encoded_and_given_back(value: dict[str, Any]) -> None:
    if json_problem(value, "metadata") is None:
        assert json.loads(json.dumps(value, ensure_ascii=False).encode()) == value
        assert carriable(value) == value


@given(values)
def test_everything_can_be_made_carriable(value: Any) -> None:
    assert json_problem(carriable(value), "value") is None


def test_a_value_nested_too_deep_is_cut_where_it_is_made_carriable() -> None:
    assert json_problem(carriable(nested(5000)), "value") is None


@pytest.mark.parametrize(("text", "carried"), [("é", True), ("\udce9", False), ("a\0", False)])
def test_text_is_judged_alone_too(text: str, carried: bool) -> None:
    assert (text_problem(text) is None) is carried
