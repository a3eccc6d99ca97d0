"""Every configuration of CARS is translated."""

from typing import Any

import pytest

from batuta.cluster import check_configuration
from batuta.cluster.resources import Bound
from batuta.compat.cars import configuration
from batuta.compat.cars.configuration import translate_configuration
from batuta.errors import ConfigurationError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 GB free, 8 cores."""
    monkeypatch.setattr(configuration, "available_ram_bytes", lambda: Bound(16_000_000_000, "free"))
    monkeypatch.setattr(configuration, "usable_cores", lambda: Bound(8, "cores"))


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, {"mode": "multiprocessing", "nb_workers": 8}),
        ({}, {"mode": "multiprocessing", "nb_workers": 8}),
        ({"mode": "mp", "nb_workers": 3}, {"mode": "multiprocessing", "nb_workers": 3}),
        ({"nb_workers": "auto"}, {"mode": "multiprocessing", "nb_workers": 8}),
        (
            {"max_ram_per_worker": 5000},
            {"mode": "multiprocessing", "max_ram_per_worker": 5000, "nb_workers": 3},
        ),
        ({"nb_workers": 64}, {"mode": "multiprocessing", "nb_workers": 8}),
        (
            {"max_ram_per_worker": 64_000},
            {"mode": "multiprocessing", "max_ram_per_worker": 64_000, "nb_workers": 1},
        ),
        ({"mode": "sequential", "profiling": {}}, {"mode": "sequential"}),
        ({"mode": "auto"}, {"mode": "auto"}),
    ],
)
def test_a_configuration_of_cars_is_translated(
    given: dict[str, Any] | None, expected: dict[str, Any]
) -> None:
    assert translate_configuration(given) == expected


def test_the_configuration_of_the_caller_is_left_as_it_is() -> None:
    given = {"mode": "mp", "profiling": {}}
    translate_configuration(given)
    assert given == {"mode": "mp", "profiling": {}}


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": ["mp"]},
        {"nb_workers": 0},
        {"nb_workers": "many"},
        {"max_ram_per_worker": -1},
        {"max_ram_per_worker": "much"},
        {"nb_worker": 2},
    ],
)
def test_an_invalid_value_is_left_for_the_check_that_names_it(wrong: dict[str, Any]) -> None:
    (key,) = wrong
    with pytest.raises(ConfigurationError, match=f"^{key}: "):
        check_configuration(translate_configuration(wrong))


def test_resume_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigurationError, match=r"^resume: true given"):
        translate_configuration({"resume": True})
