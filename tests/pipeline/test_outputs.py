"""Metadata of a product is stored, whatever a function gives."""

import json
from typing import Any

import pytest

from batuta.json_values import json_problem
from batuta.pipeline.outputs import MAX_METADATA_BYTES, checked_metadata


@pytest.mark.parametrize(
    ("given", "stored", "problem"),
    [
        ([1, 2], {"metadata": [1, 2]}, "metadata: a list given, a mapping expected"),
        (None, {"metadata": None}, "metadata: None given, a mapping expected"),
        (
            {"small": 1, "large": "x" * MAX_METADATA_BYTES},
            {"small": 1},
            "metadata.large: 900002 bytes as JSON, left out (accepted: 900000 in all)",
        ),
    ],
)
def test_metadata_that_cannot_be_stored_is_replaced_and_told(
    given: Any, stored: dict[str, Any], problem: str
) -> None:
    metadata, problems = checked_metadata(given)
    assert (metadata, problems) == (stored, [problem])


def test_metadata_in_json_s_own_types_is_stored_as_it_is() -> None:
    given = {"mean": 1.5, "site": {"name": "North", "altitude_m": 2400}, "flags": [True, None]}
    assert checked_metadata(given) == (given, [])


@pytest.mark.parametrize("depth", [70, 3000])
def test_metadata_nested_too_deep_is_cut_and_told(depth: int) -> None:
    given: Any = 1
    for _ in range(depth):
        given = {"x": given}
    metadata, problems = checked_metadata(given)
    assert problems == ["metadata: nested deeper than 64 levels"]
    assert json_problem(metadata, "metadata") is None
    json.dumps(metadata)
