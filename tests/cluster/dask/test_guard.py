"""The process that cancels jobs when its owner ends, with commands that stand for those of a
batch system."""

import subprocess
import sys
from pathlib import Path

import pytest

from batuta.cluster.dask.jobs import reaper_main
from batuta.cluster.dask.jobs.reaper import Guard
from tests.support.waiting import eventually_sync

OWNER = """
import os, signal, sys, time
from pathlib import Path
from batuta.cluster.dask.jobs.reaper import Guard
guard = Guard(sys.argv[1:2], [])
reaper_main.keep_job("7")
reaper_main.keep_job("8")
reaper_main.forget_job("7")
reaper_main.keep_folder(Path(sys.argv[2]))
if os.fork():
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdout.close()
time.sleep(30)
"""


@pytest.fixture
def cancel(tmp_path: Path) -> Path:
    """A command that notes what it is to cancel."""
    command = tmp_path / "cancel"
    command.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/cancelled\n')
    command.chmod(0o755)
    return command


def test_the_end_of_the_owner_is_seen_though_a_process_that_it_forked_lives(
    cancel: Path, tmp_path: Path
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    subprocess.run([sys.executable, "-c", OWNER, str(cancel), str(secrets)], check=False)
    eventually_sync(lambda: not secrets.exists())
    assert (tmp_path / "cancelled").read_text() == "8\n"


def test_many_jobs_are_cancelled_by_a_few_commands(cancel: Path, tmp_path: Path) -> None:
    owner = Guard([str(cancel)], [])
    for number in range(250):
        owner.keep_job(str(number))
    owner.close()
    lines = (tmp_path / "cancelled").read_text().splitlines()
    assert [len(line.split()) for line in lines] == [100, 100, 50]


def test_what_cannot_be_cancelled_is_tried_again_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper_main, "TRIES_EVERY_S", (0.0, 0.0))
    refusing = tmp_path / "refuse"
    refusing.write_text(f"#!/bin/sh\necho x >> {tmp_path}/tries; echo not now >&2; exit 1\n")
    refusing.chmod(0o755)
    said = reaper_main._cancel([str(refusing)], ["3", "4"])
    assert said == "jobs 3 4 may be left in the queue: not now\n"
    assert (tmp_path / "tries").read_text() == "x\nx\n"


@pytest.mark.parametrize(
    "said",
    [
        "scancel: error: Kill job error on job id 12: Invalid job id specified",
        "qdel: Unknown Job Id 12.server",
        "qdel: Job has finished 12.server",
    ],
)
def test_a_job_that_is_over_is_no_problem(said: str, tmp_path: Path) -> None:
    command = tmp_path / "cancel"
    command.write_text(f"#!/bin/sh\necho '{said}' >&2; exit 1\n")
    command.chmod(0o755)
    assert reaper_main._cancel([str(command)], ["12"]) == ""
