"""Output on the terminal while a program runs, and in its log file."""

import errno
import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from batuta.datasets import CarsDataset, CarsDict
from batuta.orchestrator import (
    Orchestrator,
    RunEnded,
    RunStarted,
    TileDone,
    TileFailed,
    TileOutcome,
    TileRetried,
    WorkersPresent,
)
from batuta.orchestrator.events import TileKept
from batuta.orchestrator.screen import ON_SCREEN, ProgressBar, Screen, is_terminal
from tests.support.checkout import PYTHON_PATH

PROGRAM = """
import sys, warnings
from pathlib import Path
from tests.orchestrator.failing_program import run_program
warnings.simplefilter("ignore")
conf = {"mode": "multiprocessing", "on_tile_failure": "continue", "per_job_timeout": 1}
if __name__ == "__main__":
    run_program(Path(sys.argv[1]), conf, "first task")
"""


def shown_by(folder: Path, program: str, argument: str) -> str:
    """Run a program; return what it shows on its standard error."""
    script = folder / "program.py"
    script.write_text(program)
    done = subprocess.run(
        [sys.executable, str(script), argument],
        env={"PYTHONPATH": PYTHON_PATH},
        check=True,
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.stderr


def test_a_program_without_logging_shows_its_warnings_one_line_each(tmp_path: Path) -> None:
    (tmp_path / "trouble").touch()
    shown = shown_by(tmp_path, PROGRAM, str(tmp_path))
    lines = shown.splitlines()
    assert any(
        line.startswith("batuta: tiles[0, 3] is retried: WorkerLostError: ")
        and "signal 9" in line
        and line.endswith("(in task source)")
        for line in lines
    )
    failed = "batuta: tiles[0, 0] failed: ValueError: no light (in task source, functions.py:"
    assert any(line.startswith(failed) for line in lines)
    assert any("tiles[0, 4] is retried: TaskTimeoutError: killed" in line for line in lines)
    assert "batuta: 6 of 20 tiles failed:" in lines
    assert "Traceback" not in shown
    assert all(line.startswith(("batuta: ", "  tiles[0, ")) for line in lines)
    log = (tmp_path / "batuta.log").read_text()
    assert "WARNING [process " in log
    assert "tiles[0, 3] is retried" in log


WITHOUT_FOLDER = """
import sys
from batuta.orchestrator import Orchestrator
from batuta.datasets import CarsDataset, CarsDict

def fail(n):
    raise ValueError(f"no light on {n}")

if __name__ == "__main__":
    conf = {"mode": sys.argv[1], "nb_workers": 1, "on_tile_failure": "continue"}
    with Orchestrator(conf) as orchestrator:
        dataset = CarsDataset("dict", name="tiles")
        dataset.create_grid(2, 1, 1, 1)
        orchestrator.add_to_replace_lists(dataset)
        for n in range(2):
            dataset[0, n] = orchestrator.cluster.create_task(fail)(n)
"""


@pytest.mark.parametrize("mode", ["multiprocessing", "local_dask"])
def test_a_run_without_a_folder_shows_no_tracebacks_of_its_workers(
    tmp_path: Path, mode: str
) -> None:
    told = shown_by(tmp_path, WITHOUT_FOLDER, mode).splitlines()
    assert len([line for line in told if "is retried: ValueError: no light on" in line]) == 2
    assert len([line for line in told if "] failed: ValueError: no light on" in line]) == 2
    assert all(line.startswith(("batuta: ", "  tiles[0, ")) for line in told), told


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Capture standard error; not a fixture, as pytest would install its own capture after it."""
    made = Terminal()
    monkeypatch.setattr(sys, "stderr", made)
    return made


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger that writes on the screen alone."""
    made = logging.getLogger("batuta.test.screen")
    made.propagate = False
    made.setLevel(logging.INFO)
    screen = Screen()
    made.addHandler(screen)
    yield made
    made.removeHandler(screen)


def test_the_bar_shows_what_is_computed_and_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    bar = ProgressBar()
    for event in (
        RunStarted(4),
        TileKept("maps", 0, 0, TileOutcome.SAVED),
        TileDone("heights", 0, 0, TileOutcome.SAVED),
        TileRetried("heights", 0, 1, "why"),
        TileRetried("heights", 1, 1, "why"),
        TileDone("heights", 0, 1, TileOutcome.SAVED),
        TileFailed("heights", 1, 1, "why"),
        RunEnded(3, 1, 4),
    ):
        bar.on_event(event)
    last = screen.getvalue().split("\r")[-1]
    assert last.startswith("heights: 100%")
    assert "4/4" in last
    assert "2 retried, 1 failed" in last


def test_the_bar_shows_how_many_workers_there_are_and_what_the_others_wait_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = terminal(monkeypatch)
    bar = ProgressBar()
    bar.on_event(RunStarted(4))
    bar.on_event(WorkersPresent(0, 10, "10 jobs in the queue (Resources)"))
    assert "0 of 10 workers: 10 jobs in the queue (Resources)" in shown.getvalue()
    bar.on_event(WorkersPresent(10, 10, ""))
    bar.on_event(TileRetried("heights", 0, 1, "no light"))
    last = shown.getvalue().rpartition("\r")[2]
    assert "10 of 10 workers]" in last
    bar.on_event(WorkersPresent(3, None, ""))
    assert "1 retried, 3 workers]" in shown.getvalue().rpartition("\r")[2]
    bar.on_event(RunEnded(4, 0, 4))


def test_a_warning_stands_above_the_bar(
    monkeypatch: pytest.MonkeyPatch, logger: logging.Logger
) -> None:
    screen = terminal(monkeypatch)
    bar = ProgressBar()
    bar.on_event(RunStarted(2))
    logger.warning("heights[0, 1] is retried")
    bar.on_event(RunEnded(0, 0, 2))
    shown = screen.getvalue()
    assert "\rbatuta: heights[0, 1] is retried\n" in shown
    assert shown.rstrip().rsplit("\r", 1)[-1].startswith("Tiles:   0%")


def test_only_warnings_and_records_marked_for_the_screen_are_shown(
    monkeypatch: pytest.MonkeyPatch, logger: logging.Logger
) -> None:
    screen = terminal(monkeypatch)
    logger.info("a detail")
    logger.info("resumed: 3 of 4 tiles were there", extra=ON_SCREEN)
    logger.error("it failed", exc_info=ValueError("deep inside"))
    assert screen.getvalue() == "batuta: resumed: 3 of 4 tiles were there\nbatuta: it failed\n"


def test_without_a_terminal_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = io.StringIO()
    monkeypatch.setattr(sys, "stderr", silent)
    bar = ProgressBar()
    bar.on_event(RunStarted(2))
    bar.on_event(TileDone("heights", 0, 0, TileOutcome.SAVED))
    bar.on_event(RunEnded(1, 0, 2))
    assert not silent.getvalue()


class WritesOnly:
    """A stream that only writes, as programs put in the place of standard error."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        """Do nothing."""


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


class GoneTerminal(io.StringIO):
    """A terminal that was closed: whatever is written to it fails."""

    def isatty(self) -> bool:
        return True

    def write(self, _: str) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize(
    "stream",
    [None, WritesOnly(), closed(), GoneTerminal()],
    ids=["none", "plain", "closed", "gone"],
)
def test_a_program_without_a_terminal_runs_and_warns_in_its_log_alone(
    stream: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stream)
        with Orchestrator({"mode": "sequential"}, tmp_path) as orchestrator:
            dataset = CarsDataset("dict", name="few")
            dataset.create_grid(2, 1, 1, 1)
            for row, col in dataset.positions():
                dataset[row, col] = orchestrator.cluster.create_task(CarsDict)({"n": col})
            orchestrator.add_to_save_lists(tmp_path / "few.json", "", dataset)
            logging.getLogger("batuta").warning("look at this")
    assert (tmp_path / "few.json").exists()
    assert "look at this" in (tmp_path / "batuta.log").read_text()


def test_a_bar_whose_terminal_is_closed_is_not_drawn_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = terminal(monkeypatch)
    bar = ProgressBar()
    bar.on_event(RunStarted(2))
    screen.close()
    bar.on_event(TileRetried("heights", 0, 0, "why"))
    bar.on_event(WorkersPresent(1, 2, ""))
    bar.on_event(TileDone("heights", 0, 0, TileOutcome.SAVED))
    bar.on_event(RunEnded(2, 0, 2))


@pytest.mark.parametrize("stream", [None, WritesOnly(), closed()], ids=["none", "plain", "closed"])
def test_what_cannot_say_that_it_is_a_terminal_is_none(stream: object) -> None:
    assert not is_terminal(stream)
