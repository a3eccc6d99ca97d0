"""Runs of several processes of tests: `tests.support.preloaded`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import eventually_sync

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="they are forked on Linux only")

ROOT = Path(__file__).parents[1]
CONFTEST = """
from tests.support.preloaded import start_preloaded

def pytest_xdist_setupnodes(config, specs):
    command = start_preloaded(config)
    for spec in specs:
        spec.python = command
"""
TESTS = """
import os, pathlib, subprocess, sys, time
import pytest

with open("imported", "a") as file:
    file.write("once\\n")

@pytest.mark.parametrize("number", range(4))
def test_that_fails_is_explained(number):
    assert sys.modules["__main__"].__dict__.get("__file__") is None
    assert number != 3

def test_that_hangs():
    daemon = subprocess.Popen(["sleep", "600"], start_new_session=True)
    pathlib.Path("started").write_text(f"{os.getpid()} {daemon.pid} .")
    time.sleep(600)
"""


def run(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_of_a_run.py").write_text(TESTS)
    # Of its own: pytest takes from others what they may read in the folder of all runs.
    options = ["--import-mode=importlib", f"--basetemp={folder / 'temporary'}"]
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, *arguments, "test_of_a_run.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PYTEST_ADDOPTS": "-p no:zarr"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_tests_are_imported_once_for_all_processes_and_failures_show_values(tmp_path: Path) -> None:
    output, _ = run(tmp_path, "-n", "2", "-k", "explained").communicate(timeout=100)

    assert "1 failed, 3 passed" in output
    assert "assert 3 != 3" in output
    assert (tmp_path / "imported").read_text() == "once\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_broken_off_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    started = tmp_path / "started"
    with run(tmp_path, "-n", "1", "-k", "hangs") as process:
        eventually_sync(lambda: started.exists() and started.read_text().endswith("."), 100)
        left = [psutil.Process(int(pid)) for pid in started.read_text().split()[:2]]
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        process.communicate(timeout=100)

    eventually_sync(lambda: not [one for one in left if one.is_running()], 30)
