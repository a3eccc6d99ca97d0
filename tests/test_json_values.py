"""What JSON, UTF-8 and every supported database can carry."""

import datetime as dt
import enum
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from batuta.json_values import (
    MAX_ARRAY_SIZE,
    MAX_DEPTH,
    MAX_INTEGER,
    carriable,
    json_problem,
    json_problems,
    plain,
    text_problem,
)


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


@settings(max_examples=50)
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


class Band(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.float32(1.5), 1.5),
        (np.float64(1.5), 1.5),
        (np.int16(-3), -3),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (xr.DataArray(2.5), 2.5),
        (pd.Series([1, 2]), [1, 2]),
        (np.datetime64("2026-11-28T12:00:00", "s"), "2026-11-28T12:00:00"),
        (np.array(["2026-11-28", "NaT"], "M8[D]"), ["2026-11-28", None]),
        (pd.NaT, None),
        (dt.datetime(2026, 11, 28, tzinfo=dt.UTC), "2026-11-28T00:00:00+00:00"),
        (dt.date(2026, 11, 28), "2026-11-28"),
        (Path("/a/b"), "/a/b"),
        (Band.RED, "red"),
        ((1, {2}), [1, [2]]),
        ({1: {"b": np.int8(2)}}, {"1": {"b": 2}}),
    ],
)
def test_what_has_an_equal_in_json_is_converted_to_it(given: Any, expected: Any) -> None:
    converted = plain({"x": given})
    assert converted == {"x": expected}
    assert json_problem(converted, "metadata") is None
    assert json.loads(json.dumps(converted)) == converted


@pytest.mark.parametrize(
    "given", [np.zeros(MAX_ARRAY_SIZE + 1), np.timedelta64(5, "s"), 1j, b"x", pd.NA, object()]
)
def test_what_has_none_is_left_and_told(given: Any) -> None:
    assert len(list(json_problems(plain({"x": given}), "metadata"))) == 1
    assert isinstance(carriable(plain({"x": given}))["x"], str)


def test_every_problem_is_told_in_order() -> None:
    problems = json_problems({"a": math.nan, "b": [1, object()], "c": "\0"}, "metadata")
    assert [each.partition(":")[0] for each in problems] == [
        "metadata.a",
        "metadata.b.1",
        "metadata.c",
    ]
