"""A program that is interrupted, or killed, in the middle of its tasks."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from batuta.cluster.store import LOCK_FILE, ResultStore, shared_memory_folder
from batuta.datasets import CarsDataset, CarsDict
from batuta.orchestrator import Orchestrator
from tests.cluster.functions import started_programs
from tests.support.waiting import eventually_sync


@pytest.fixture(params=["dump", "memory", "local_dask"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The endless program, both of its workers in the middle of a task."""
    arguments = [
        sys.executable,
        "-m",
        "tests.orchestrator.hanging_program",
        str(tmp_path),
        request.param,
    ]
    # A session of its own: like a terminal's, the signal reaches the program and its workers.
    with subprocess.Popen(
        arguments, start_new_session=True, stderr=subprocess.PIPE, env=os.environ
    ) as process:
        eventually_sync(lambda: len(list(tmp_path.glob("running-*"))) == 2, timeout_s=60)
        yield process
        process.kill()


def shared_folders(pid: int) -> list[Path]:
    """List the folders in shared memory that a process holds; other tests hold theirs."""
    opened = [Path(each).resolve() for each in Path(f"/proc/{pid}/fd").iterdir()]
    folders = {path.parent for path in opened if path.name == LOCK_FILE}
    return [each for each in folders if each.parent == shared_memory_folder()]


def temporary_files(out_dir: Path, shared: list[Path]) -> list[Path]:
    """List what a run leaves behind when it should not."""
    dumped = [each for each in out_dir.rglob("*") if "tmp_save_disk" in str(each)]
    return [*dumped, *out_dir.rglob(".*"), *(each for each in shared if each.exists())]


def running_programs(out_dir: Path) -> list[int]:
    """List what the two tasks have started, in sessions of their own too, and still runs."""
    files = list(out_dir.glob("programs-*"))
    assert len(files) == 2
    return [pid for file in files for pid in started_programs(file)]


def test_ctrl_c_leaves_no_process_and_no_temporary_file(
    program: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    family = psutil.Process(program.pid).children(recursive=True)
    shared = shared_folders(program.pid)
    assert shared or program.args[-1] == "local_dask"  # type: ignore[index]  # a list here
    assert len(family) >= 2
    os.killpg(program.pid, signal.SIGINT)
    _, errors = program.communicate(timeout=20)
    assert program.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in errors
    assert b"is lost" not in errors
    assert not psutil.wait_procs(family, timeout=10)[1]
    assert not running_programs(tmp_path)
    assert not temporary_files(tmp_path, shared)
    account = json.loads((tmp_path / "endless.json.manifest.json").read_text())
    assert not account["complete"]


def test_after_a_kill_workers_end_and_the_next_run_removes_temporary_files(
    program: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    family = psutil.Process(program.pid).children(recursive=True)
    shared = shared_folders(program.pid)
    program.kill()
    program.wait()
    assert not psutil.wait_procs(family, timeout=10)[1]
    assert not running_programs(tmp_path)
    for parent in (tmp_path / "tmp_save_disk", None):
        ResultStore(parent).close()
    assert not [
        path for path in temporary_files(tmp_path, shared) if not path.name.startswith(".endless")
    ]


def test_an_interruption_while_a_file_is_opened_leaves_no_trace_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "glob", interrupted)  # the workspace is there, the file is not
    dataset = CarsDataset("dict", name="opened")
    dataset.create_grid(1, 1, 1, 1)
    dataset[0, 0] = CarsDict({"value": 1})
    with pytest.raises(KeyboardInterrupt), Orchestrator({"mode": "sequential"}, tmp_path) as run:
        run.add_to_save_lists(tmp_path / "opened.json", "", dataset)
    monkeypatch.undo()
    assert not list(tmp_path.glob(".*"))
