"""The progress bars of CARS advance as with its own orchestrator."""

import importlib
from typing import Any

import pytest

from batuta.orchestrator import (
    Event,
    RunEnded,
    RunStarted,
    TileDone,
    TileFailed,
    TileOutcome,
    TileRetried,
)

DONE = TileDone("dsm", 0, 0, TileOutcome.SAVED)
RETRIED = TileRetried("dsm", 0, 1, "no light")
FAILED = TileFailed("dsm", 0, 1, "no light")


def told(task_id: int | None, events: list[Event]) -> list[tuple[Any, ...]]:
    """Return the notifications that CARS receives for these events."""
    progress = importlib.import_module("batuta.compat.cars.progress").CarsProgress()
    progress.task_id = task_id
    for event in events:
        progress.on_event(event)
    heard: list[tuple[Any, ...]] = importlib.import_module(
        "cars.core.progress.progress"
    ).ProgressTree.told
    return heard


@pytest.mark.usefixtures("fake_cars")
def test_a_retried_tile_is_withdrawn_and_a_second_pass_starts() -> None:
    events: list[Event] = [RunStarted(2), DONE, RETRIED, DONE, RunEnded(2, 0, 2)]
    assert told(5, events) == [
        (5, "started", 2),
        (5, "progressed"),
        (5, "progressed"),
        (5, "retries"),
        (5, "started", 1),
        (5, "progressed"),
        (5, "completed"),
    ]


@pytest.mark.usefixtures("fake_cars")
def test_a_tile_that_fails_for_good_is_counted() -> None:
    events: list[Event] = [RunStarted(2), DONE, RETRIED, FAILED, RunEnded(1, 1, 2)]
    assert told(5, events)[-4:] == [
        (5, "started", 1),
        (5, "progressed"),
        (5, "failed"),
        (5, "completed"),
    ]


@pytest.mark.usefixtures("fake_cars")
def test_a_run_with_nothing_to_compute_is_not_reported() -> None:
    assert told(5, [RunStarted(0), RunEnded(0, 0, 0)]) == []


@pytest.mark.usefixtures("fake_cars")
def test_without_a_bar_nothing_is_reported() -> None:
    assert told(None, [RunStarted(2), DONE, DONE, RunEnded(2, 0, 2)]) == []
