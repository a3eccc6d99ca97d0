"""Nothing is left in the queue, nor of the workers, however the program ends."""

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
from batuta.cluster.dask.jobs import reaper
from tests.cluster.conftest import compute
from tests.cluster.dask.conftest import MakeCluster
from tests.cluster.dask.gated import Gate, gated
from tests.cluster.dask.slurm_jobs import (
    SLURM,
    hold,
    nothing_left,
    of_batuta,
    program,
    put_before,
    tiles,
    told_by,
    worker_processes,
)
from tests.support.waiting import eventually_sync
from tools.slurm import LocalSlurm

Program = subprocess.Popen[str]

ENDS: dict[str, tuple[Callable[[Program], None], int]] = {
    "ctrl-c": (lambda process: os.killpg(process.pid, signal.SIGINT), -signal.SIGINT),
    "terminated": (lambda process: process.terminate(), -signal.SIGTERM),
    "killed": (lambda process: process.kill(), -signal.SIGKILL),
}


@pytest.fixture
def one_place(slurm: LocalSlurm) -> int:
    """Leave place for one job; give the number of one that takes the rest, and can be ended."""
    hold(slurm, "node2", 16)
    return hold(slurm, "node1", 15)


@pytest.mark.usefixtures("one_place")
@pytest.mark.parametrize("how", ENDS)
def test_jobs_that_run_and_jobs_that_wait_are_cancelled_when_the_program_is(
    slurm: LocalSlurm, gate: Gate, tmp_path: Path, how: str
) -> None:
    end, code = ENDS[how]
    with program(tmp_path, {**SLURM, "nb_workers": 3}) as process:
        gate.wait_for_begun(1)
        assert of_batuta(slurm) == ["PENDING", "PENDING", "RUNNING"]
        assert worker_processes(slurm)
        end(process)
        _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert ("KeyboardInterrupt" in said) == (how == "ctrl-c")
    assert nothing_left(slurm, tmp_path)


def test_after_an_exception_in_the_block_nothing_is_left(
    slurm: LocalSlurm, gate: Gate, tmp_path: Path
) -> None:
    with program(tmp_path, SLURM, "1", "raise") as process:
        _, said = process.communicate(timeout=60)
    assert said.splitlines()[-1] == "ZeroDivisionError: in the block, 1 started"
    assert len(gate.begun()) == 1
    assert "RUNNING" not in of_batuta(slurm)
    assert "PENDING" not in of_batuta(slurm)
    assert nothing_left(slurm, tmp_path)


def test_with_the_program_and_its_guard_killed_workers_end_by_themselves(
    slurm: LocalSlurm, gate: Gate, tmp_path: Path, one_place: int
) -> None:
    patience = ["--death-timeout 2"]  # as DEATH_S, for those that start once all is gone
    conf = {**SLURM, "nb_workers": 2, "worker_extra_args": patience}
    with program(tmp_path, conf) as process:
        gate.wait_for_begun(1)
        eventually_sync(lambda: of_batuta(slurm) == ["PENDING", "RUNNING"])
        _guard_of(process.pid).kill()
        process.kill()
    gate.open()
    eventually_sync(lambda: of_batuta(slurm) == ["PENDING"], 40)
    slurm.queue.cancel(one_place)
    eventually_sync(lambda: not of_batuta(slurm), 60)
    eventually_sync(lambda: not worker_processes(slurm))


def test_another_guard_takes_the_place_of_one_that_is_killed(
    slurm: LocalSlurm, make_jobs_cluster: MakeCluster, gate: Gate, aside: ThreadPoolExecutor
) -> None:
    cluster = make_jobs_cluster(nb_workers=1)
    found = aside.submit(compute, cluster, tiles(cluster, gate.folder, 1, gated))
    gate.wait_for_begun(1)
    guard = _guard_of(os.getpid())
    guard.kill()
    gate.open()
    found.result(timeout=60)
    cluster.cleanup()
    assert "RUNNING" not in of_batuta(slurm)


def _guard_of(pid: int) -> psutil.Process:
    children = psutil.Process(pid).children()
    (guard,) = [each for each in children if any("guard.py" in arg for arg in each.cmdline())]
    return guard


def test_a_job_whose_submission_was_under_way_is_cancelled_too(
    slurm: LocalSlurm, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = _numbers(slurm)
    begun, on = tmp_path / "submission", tmp_path / "goes-on"
    wait = f"touch {begun}; while [ ! -e {on} ]; do sleep 0.1; done"
    put_before("sbatch", wait, tmp_path, monkeypatch)
    with program(tmp_path, {**SLURM, "nb_workers": 1}) as process:
        eventually_sync(begun.exists)
        process.kill()
    on.touch()
    slurm.queue.wait_until(lambda: _numbers(slurm) - earlier, "the job")
    assert nothing_left(slurm, tmp_path)
    assert not gate.begun()


def test_a_job_that_is_being_submitted_when_the_cluster_is_cleaned_up_is_cancelled(
    slurm: LocalSlurm,
    make_jobs_cluster: MakeCluster,
    aside: ThreadPoolExecutor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    earlier = _numbers(slurm)
    begun, on = tmp_path / "submission", tmp_path / "goes-on"
    wait = f"touch {begun}; while [ ! -e {on} ]; do sleep 0.1; done"
    put_before("sbatch", wait, tmp_path, monkeypatch)
    cluster = make_jobs_cluster(nb_workers=1)
    eventually_sync(begun.exists)
    end = aside.submit(cluster.cleanup)
    on.touch()
    end.result(timeout=30)
    (job,) = _numbers(slurm) - earlier
    assert slurm.queue.job(job).state in {"CANCELLED", "COMPLETING"}


def _numbers(slurm: LocalSlurm) -> set[int]:
    return {job.job_id for job in slurm.queue.jobs()}


@pytest.mark.usefixtures("one_place")
def test_jobs_are_cancelled_once_the_controller_that_was_away_is_back(
    slurm: LocalSlurm,
    make_jobs_cluster: MakeCluster,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reaper, "PATIENCE_S", 1.0)
    cluster = make_jobs_cluster(nb_workers=2)
    told = told_by(cluster)
    compute(cluster, tiles(cluster, gate.folder, 2))
    slurm.stop_controller()
    eventually_sync(lambda: _waiting_for(cluster, gate, told).startswith("squeue: "), 40)
    compute(cluster, tiles(cluster, gate.folder, 2))  # those there go on
    cluster.cleanup()
    assert "the batch system does not answer; cancelling goes on" in caplog.text
    slurm.start_controller()
    assert nothing_left(slurm, gate.folder, 60)


def _waiting_for(cluster: Any, gate: Gate, told: list[WorkerCount]) -> str:
    compute(cluster, tiles(cluster, gate.folder, 1))
    return told[-1].waiting_for
