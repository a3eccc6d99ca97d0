"""The terrain example killed in the middle, and started again."""

import subprocess
import sys
from pathlib import Path

import pytest

from batuta.orchestrator import Event, RunEnded, TileDone, TileKept
from examples.terrain import terrain

ROOT = Path(__file__).parents[2]
PRODUCTS = ("slope.tif", "hillshade.tif", "statistics.json", "steep.parquet")
PAUSE_AFTER = 60

PAUSING = f"""
import sys
from batuta.orchestrator import TileDone
from examples.terrain import terrain

class Pause:
    done = 0
    def on_event(self, event):
        self.done += isinstance(event, TileDone)
        if self.done == {PAUSE_AFTER}:
            print("paused", flush=True)
            sys.stdin.read()  # nothing ever comes: killed here

if __name__ == "__main__":
    terrain.main(sys.argv[1:], observers=[Pause()])
"""


class Count:
    """Counts the tiles computed, and those reused."""

    def __init__(self) -> None:
        self.computed = self.kept = self.total = 0

    def on_event(self, event: Event) -> None:
        self.computed += isinstance(event, TileDone)
        self.kept += isinstance(event, TileKept)
        if isinstance(event, RunEnded):
            self.total = event.total


def arguments(output: Path, mode: str) -> list[str]:
    return ["--output", str(output), "--mode", mode, "--resume"]


def kill_in_the_middle(output: Path, mode: str) -> None:
    command = [sys.executable, "-c", PAUSING, *arguments(output, mode)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "paused\n"
        running.kill()


@pytest.mark.parametrize("mode", ["sequential", "multiprocessing"])
def test_run_killed_and_resumed_gives_the_products_of_one_never_killed(
    mode: str, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    terrain.main(arguments(whole, "sequential"))
    kill_in_the_middle(killed, mode)
    count = Count()
    terrain.main(arguments(killed, mode), observers=[count])
    assert count.kept + count.computed == count.total
    assert count.kept <= PAUSE_AFTER
    for name in PRODUCTS:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


def test_run_that_ended_and_is_resumed_computes_nothing(tmp_path: Path) -> None:
    terrain.main(arguments(tmp_path, "sequential"))
    before = {name: (tmp_path / name).read_bytes() for name in PRODUCTS}
    count = Count()
    terrain.main(arguments(tmp_path, "sequential"), observers=[count])
    assert (count.computed, count.kept) == (0, count.total)
    assert before == {name: (tmp_path / name).read_bytes() for name in PRODUCTS}


def test_steepness_that_changed_is_computed_again(tmp_path: Path) -> None:
    terrain.main(arguments(tmp_path, "sequential"))
    before = (tmp_path / "steep.parquet").read_bytes()
    count = Count()
    terrain.main([*arguments(tmp_path, "sequential"), "--steep", "30"], observers=[count])
    assert count.computed > 0
    assert (tmp_path / "steep.parquet").read_bytes() != before
