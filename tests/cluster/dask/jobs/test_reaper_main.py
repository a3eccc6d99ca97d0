"""The process that cancels batch jobs when its owner ends, with stand-ins for the commands of a
batch system."""

import subprocess
import sys
from pathlib import Path

import pytest

from batuta.cluster.dask.jobs import reaper_main
from batuta.cluster.dask.jobs.reaper import JobReaper
from tests.support.waiting import eventually_sync

OWNER = """
import os, signal, sys, time
from pathlib import Path
from batuta.cluster.dask.jobs.reaper import JobReaper
reaper = JobReaper(sys.argv[1:2], [])
reaper.register_job("7")
reaper.register_job("8")
reaper.unregister_job("7")
reaper.register_folder(Path(sys.argv[2]))
if os.fork():
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdout.close()
time.sleep(30)
"""


@pytest.fixture
def cancel(tmp_path: Path) -> Path:
    """A command that records what it is to cancel."""
    command = tmp_path / "cancel"
    command.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/cancelled\n')
    command.chmod(0o755)
    return command


def test_the_end_of_the_owner_is_noticed_though_a_process_that_it_forked_lives_on(
    cancel: Path, tmp_path: Path
) -> None:
    private = tmp_path / "private"
    private.mkdir()
    subprocess.run([sys.executable, "-c", OWNER, str(cancel), str(private)], check=False)
    eventually_sync(lambda: not private.exists())
    assert (tmp_path / "cancelled").read_text() == "8\n"


def test_many_batch_jobs_are_cancelled_by_a_few_commands(cancel: Path, tmp_path: Path) -> None:
    reaper = JobReaper([str(cancel)], [])
    for number in range(250):
        reaper.register_job(str(number))
    reaper.close()
    lines = (tmp_path / "cancelled").read_text().splitlines()
    assert [len(line.split()) for line in lines] == [100, 100, 50]


def test_cancelling_is_retried_and_batch_jobs_that_remain_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper_main, "RETRY_DELAYS_S", (0.0, 0.0))
    refusing = tmp_path / "refuse"
    refusing.write_text(f"#!/bin/sh\necho x >> {tmp_path}/tries; echo not now >&2; exit 1\n")
    refusing.chmod(0o755)
    message = reaper_main.cancel_jobs([str(refusing)], ["3", "4"])
    assert message == "batch jobs 3 4 could not be cancelled: not now\n"
    assert (tmp_path / "tries").read_text() == "x\nx\n"


@pytest.mark.parametrize(
    "message",
    [
        "scancel: error: Kill job error on job id 12: Invalid job id specified",
        "qdel: Unknown Job Id 12.server",
        "qdel: Job has finished 12.server",
    ],
)
def test_cancelling_a_batch_job_that_has_ended_is_not_an_error(
    message: str, tmp_path: Path
) -> None:
    command = tmp_path / "cancel"
    command.write_text(f"#!/bin/sh\necho '{message}' >&2; exit 1\n")
    command.chmod(0o755)
    assert reaper_main.cancel_jobs([str(command)], ["12"]) == ""
