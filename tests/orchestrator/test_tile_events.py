"""The events that tell where tiles lie, who computes them and what they took (`tile_run`)."""

import time
from pathlib import Path
from typing import Any, TypeVar

import pytest

from batuta.datasets import CarsDataset, CarsDict
from batuta.orchestrator import (
    Event,
    Orchestrator,
    RunStarted,
    TileDone,
    TileKept,
    TileRetried,
    TileStarted,
)
from tests.orchestrator.test_observers import Listens

TWO_WORKERS: dict[str, Any] = {"mode": "multiprocessing", "nb_workers": 2}
SLOW_S = 0.3

E = TypeVar("E")


def slow(value: int) -> CarsDict:
    time.sleep(SLOW_S)
    return CarsDict({"value": value, "memory": bytes(4 << 20)})


def broken_once(folder: str) -> CarsDict:
    time.sleep(SLOW_S)
    flag = Path(folder) / "tried"
    if not flag.exists():
        flag.touch()
        raise ValueError("broken once")
    return CarsDict({"value": 0})


def events_of(
    conf: dict[str, Any], out_dir: Path, function: Any, arguments: list[Any]
) -> list[Event]:
    observer = Listens()
    with Orchestrator(conf, out_dir, observers=[observer], progress_bar=False) as orchestrator:
        dataset = CarsDataset("dict", name="values")
        dataset.create_grid(10 * len(arguments) + 10, 5, 5, 10)
        for col, argument in enumerate(arguments):
            dataset[0, col] = orchestrator.cluster.create_task(function)(argument)
        orchestrator.add_to_compute_lists(dataset)
    return observer.events


def of_kind(events: list[Event], kind: type[E]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    return events_of(TWO_WORKERS, tmp_path_factory.mktemp("run"), slow, [1, 2, 3])


def test_the_start_of_a_run_tells_where_its_tiles_lie(events: list[Event]) -> None:
    (started,) = of_kind(events, RunStarted)
    (layout,) = started.layouts
    assert (started.total, layout.dataset_name, layout.rows, layout.cols) == (3, "values", 1, 4)
    assert layout.present == bytes([1, 1, 1, 0])
    assert layout.windows[0, 2].tolist() == [0, 5, 20, 30]


def test_each_tile_starts_at_a_worker_before_it_is_done(events: list[Event]) -> None:
    order = [
        (type(event), event.col) for event in events if isinstance(event, TileStarted | TileDone)
    ]
    for col in range(3):
        assert order.index((TileStarted, col)) < order.index((TileDone, col))
    assert len({event.worker for event in of_kind(events, TileStarted)}) == 2


def test_a_tile_that_is_done_tells_its_worker_time_and_memory(events: list[Event]) -> None:
    starts = {event.col: event.worker for event in of_kind(events, TileStarted)}
    for done in of_kind(events, TileDone):
        assert done.worker == starts[done.col]
        assert done.wall_s is not None
        assert SLOW_S <= done.wall_s < 60
        assert done.peak_bytes is not None
        assert done.peak_bytes >= 2 << 20


def test_a_tile_that_is_retried_starts_again_and_tells_the_time_of_its_last_try(
    tmp_path: Path,
) -> None:
    events = events_of(TWO_WORKERS, tmp_path, broken_once, [str(tmp_path)])
    told = [type(each) for each in events if isinstance(each, TileStarted | TileRetried | TileDone)]
    assert told == [TileStarted, TileRetried, TileStarted, TileDone]
    (done,) = of_kind(events, TileDone)
    assert done.wall_s is not None
    assert SLOW_S <= done.wall_s < 60


def test_the_sequential_mode_tells_starts_and_times_with_resume(tmp_path: Path) -> None:
    conf = {"mode": "sequential", "resume": True}
    first = events_of(conf, tmp_path, slow, [1, 2])
    assert [event.col for event in of_kind(first, TileStarted)] == [0, 1]
    assert all((event.wall_s or 0) >= SLOW_S for event in of_kind(first, TileDone))
    again = events_of(conf, tmp_path, slow, [1, 2])
    assert len(of_kind(again, TileKept)) + len(of_kind(again, TileStarted)) == 2


def test_the_sequential_mode_without_resume_tells_no_times(tmp_path: Path) -> None:
    events = events_of({"mode": "sequential"}, tmp_path, slow, [1])
    (done,) = of_kind(events, TileDone)
    assert (done.worker, done.wall_s, done.peak_bytes) == (None, None, None)
