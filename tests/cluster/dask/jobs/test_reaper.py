"""Neither batch jobs nor workers are left, however the program ends."""

import os
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from batuta.cluster.contract import WorkerCount
from batuta.cluster.dask.jobs import reaper, reaper_main
from tests.cluster.conftest import compute
from tests.cluster.dask.batch_jobs import (
    SLURM,
    batch_job_states,
    occupy,
    prepend_to_command,
    program,
    record_worker_counts,
    tiles,
    wait_for_cleanup,
    worker_processes,
)
from tests.cluster.dask.conftest import MakeCluster
from tests.cluster.dask.gated import Gate, gated
from tests.support.waiting import eventually_sync
from tools.slurm import LocalSlurm

Program = subprocess.Popen[str]

ENDS: dict[str, tuple[Callable[[Program], None], int]] = {
    "ctrl-c": (lambda process: os.killpg(process.pid, signal.SIGINT), -signal.SIGINT),
    "terminated": (lambda process: process.terminate(), -signal.SIGTERM),
    "killed": (lambda process: process.kill(), -signal.SIGKILL),
}


@pytest.fixture
def room_for_one(slurm: LocalSlurm) -> None:
    """Occupy all nodes but for one batch job."""
    occupy(slurm, "node2", 16)
    occupy(slurm, "node1", 15)


@pytest.mark.usefixtures("room_for_one")
@pytest.mark.parametrize("how", ENDS)
def test_running_and_waiting_batch_jobs_are_cancelled_when_the_program_ends(
    slurm: LocalSlurm, gate: Gate, tmp_path: Path, how: str
) -> None:
    end, code = ENDS[how]
    with program(tmp_path, {**SLURM, "nb_workers": 3}) as process:
        gate.wait_for_starts(1)
        assert batch_job_states(slurm) == ["PENDING", "PENDING", "RUNNING"]
        assert worker_processes(slurm)
        end(process)
        _, output = process.communicate(timeout=30)
    assert process.returncode == code
    assert ("KeyboardInterrupt" in output) == (how == "ctrl-c")
    assert wait_for_cleanup(slurm, tmp_path)


def test_after_an_exception_in_the_block_nothing_is_left(
    slurm: LocalSlurm, gate: Gate, tmp_path: Path
) -> None:
    with program(tmp_path, {**SLURM, "nb_workers": 1}, "1", "raise") as process:
        _, output = process.communicate(timeout=60)
    assert output.splitlines()[-1] == "ZeroDivisionError: in the block, 1 started"
    assert len(gate.starts()) == 1
    assert "RUNNING" not in batch_job_states(slurm)
    assert "PENDING" not in batch_job_states(slurm)
    assert wait_for_cleanup(slurm, tmp_path)


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("room_for_one")
def test_workers_end_by_themselves_when_both_the_program_and_its_reaper_are_killed(
    slurm: LocalSlurm, gate: Gate, tmp_path: Path
) -> None:
    # For workers that start when nothing is left; on a loaded machine, the first need seconds too.
    death_timeout = ["--death-timeout 10"]
    conf = {**SLURM, "nb_workers": 2, "worker_extra_args": death_timeout}
    with program(tmp_path, conf) as process:
        gate.wait_for_starts(1)
        eventually_sync(lambda: batch_job_states(slurm) == ["PENDING", "RUNNING"])
        _reaper_of(process.pid).kill()
        process.kill()
    gate.open()
    # The second starts in the place of the first, when nothing is left that it could reach.
    logs = tmp_path / "workers_log"
    eventually_sync(lambda: len(list(logs.glob("*.err"))) == 2, 60)
    eventually_sync(lambda: not batch_job_states(slurm), 60)
    eventually_sync(lambda: not worker_processes(slurm))


def test_a_reaper_that_is_killed_is_replaced(
    slurm: LocalSlurm, make_batch_cluster: MakeCluster, gate: Gate, executor: ThreadPoolExecutor
) -> None:
    cluster = make_batch_cluster(nb_workers=1)
    found = executor.submit(compute, cluster, tiles(cluster, gate.folder, 1, gated))
    gate.wait_for_starts(1)
    _reaper_of(os.getpid()).kill()
    gate.open()
    found.result(timeout=60)
    cluster.cleanup()
    assert "RUNNING" not in batch_job_states(slurm)


def _reaper_of(pid: int) -> psutil.Process:
    def reapers() -> list[psutil.Process]:
        # Just forked, it still has the command line of its program.
        children = psutil.Process(pid).children()
        return [each for each in children if reaper_main.__file__ in each.cmdline()]

    eventually_sync(lambda: len(reapers()) == 1)
    (found,) = reapers()
    return found


def test_a_batch_job_being_submitted_when_the_program_is_killed_is_cancelled(
    slurm: LocalSlurm, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = _job_ids(slurm)
    started, proceed = tmp_path / "started", tmp_path / "proceed"
    wait = f"touch {started}; while [ ! -e {proceed} ]; do sleep 0.1; done"
    prepend_to_command("sbatch", wait, tmp_path, monkeypatch)
    with program(tmp_path, {**SLURM, "nb_workers": 1}) as process:
        eventually_sync(started.exists)
        process.kill()
    proceed.touch()
    slurm.queue.wait_until(lambda: _job_ids(slurm) - earlier, "the job")
    assert wait_for_cleanup(slurm, tmp_path)
    assert not gate.starts()


def test_a_batch_job_being_submitted_when_the_cluster_is_cleaned_up_is_cancelled(
    slurm: LocalSlurm,
    make_batch_cluster: MakeCluster,
    executor: ThreadPoolExecutor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    earlier = _job_ids(slurm)
    started, proceed = tmp_path / "started", tmp_path / "proceed"
    wait = f"touch {started}; while [ ! -e {proceed} ]; do sleep 0.1; done"
    prepend_to_command("sbatch", wait, tmp_path, monkeypatch)
    cluster = make_batch_cluster(nb_workers=1)
    eventually_sync(started.exists)
    end = executor.submit(cluster.cleanup)
    proceed.touch()
    end.result(timeout=30)
    (job,) = _job_ids(slurm) - earlier
    assert slurm.queue.job(job).state in {"CANCELLED", "COMPLETING"}


def _job_ids(slurm: LocalSlurm) -> set[int]:
    return {job.job_id for job in slurm.queue.jobs()}


@pytest.mark.usefixtures("room_for_one")
def test_batch_jobs_are_cancelled_once_a_controller_that_was_down_is_back(
    slurm: LocalSlurm,
    make_batch_cluster: MakeCluster,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reaper, "CANCEL_TIMEOUT_S", 1.0)
    cluster = make_batch_cluster(nb_workers=2)
    counts = record_worker_counts(cluster)
    compute(cluster, tiles(cluster, gate.folder, 2))
    slurm.stop_controller()
    eventually_sync(lambda: _waiting_for(cluster, gate, counts).startswith("squeue: "), 40)
    compute(cluster, tiles(cluster, gate.folder, 2))  # running batch jobs go on
    cluster.cleanup()
    assert "the batch system has not answered for 1 s; batch jobs are still" in caplog.text
    slurm.start_controller()
    assert wait_for_cleanup(slurm, gate.folder, 60)


def _waiting_for(cluster: Any, gate: Gate, counts: list[WorkerCount]) -> str:
    compute(cluster, tiles(cluster, gate.folder, 1))
    return counts[-1].waiting_for
