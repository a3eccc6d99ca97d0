"""An observer that raises ends the run, and its files are closed (`finalize`)."""

import json
from pathlib import Path
from typing import Any

import psutil
import pytest

from batuta.datasets import CarsDataset, CarsDict
from batuta.orchestrator import Event, Orchestrator, RunEnded, TileDone, TileKept

MULTIPROCESSING: dict[str, Any] = {"mode": "multiprocessing", "max_tasks_per_worker": 100}


class BrokenError(Exception):
    """What the observers of these tests raise."""


class Breaks:
    """Raises at the first event of a kind."""

    def __init__(self, kind: type[Any]) -> None:
        self.kind = kind
        self.broken = False

    def on_event(self, event: Event) -> None:
        if isinstance(event, self.kind) and not self.broken:
            self.broken = True
            raise BrokenError


class Listens:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)


def number(value: int) -> CarsDict:
    return CarsDict({"value": value})


def register(orchestrator: Orchestrator, path: Path, count: int = 8) -> None:
    dataset = CarsDataset("dict", name="numbers")
    dataset.create_grid(count, 1, 1, 1)
    for _, col in dataset.positions():
        dataset[0, col] = orchestrator.cluster.create_task(number)(col)
    orchestrator.add_to_save_lists(path, "", dataset)


def run(out_dir: Path, conf: dict[str, Any], observers: list[Any]) -> None:
    with Orchestrator(conf, out_dir, observers=observers) as orchestrator:
        register(orchestrator, out_dir / "numbers.json")


def manifest(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{path}.manifest.json").read_text())
    return found


@pytest.mark.parametrize("conf", [MULTIPROCESSING, {"mode": "sequential"}])
@pytest.mark.parametrize("kind", [TileDone, RunEnded])
def test_the_files_are_closed_and_nothing_is_left(
    kind: type[Any], conf: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "numbers.json"
    path.write_text("earlier")
    process = psutil.Process()
    before = set(process.children(recursive=True))
    with pytest.raises(BrokenError):
        run(tmp_path, conf, [Breaks(kind)])
    assert path.read_text() == "earlier"
    assert not manifest(path)["complete"]
    assert not list(tmp_path.glob(".*"))
    assert not list(tmp_path.glob("tmp_save_disk*"))
    workers = set(process.children(recursive=True)) - set(process.children())  # of the forkserver
    workers -= before
    assert not psutil.wait_procs(workers, timeout=10)[1]


def test_the_other_observers_are_called_all_the_same(tmp_path: Path) -> None:
    before, after = Listens(), Listens()
    with pytest.raises(BrokenError):
        run(tmp_path, {"mode": "sequential"}, [before, Breaks(TileDone), after])
    assert before.events == after.events
    assert isinstance(before.events[1], TileDone)
    assert before.events[2:] == [RunEnded(1, 0, 8)]


def test_another_run_may_follow_in_the_same_block(tmp_path: Path) -> None:
    with Orchestrator(MULTIPROCESSING, tmp_path, observers=[Breaks(TileDone)]) as orchestrator:
        register(orchestrator, tmp_path / "first.json", 40)
        with pytest.raises(BrokenError):
            orchestrator.breakpoint()
        register(orchestrator, tmp_path / "second.json", 40)
    assert not (tmp_path / "first.json").exists()
    assert manifest(tmp_path / "second.json")["complete"]


def test_with_resume_the_tiles_that_were_done_are_kept(tmp_path: Path) -> None:
    conf = MULTIPROCESSING | {"resume": True}
    with pytest.raises(BrokenError):
        run(tmp_path, conf, [Breaks(TileDone)])
    recorder = Listens()
    run(tmp_path, conf, [recorder])
    assert len([each for each in recorder.events if isinstance(each, TileKept)]) >= 1
    assert manifest(tmp_path / "numbers.json")["complete"]
