"""Batch jobs that wait in the queue of a real Slurm, and those that it refuses."""

import asyncio
import math
import re
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from batuta.cluster.contract import WorkerCount
from batuta.cluster.dask.jobs.connections import WorkerConnections
from batuta.cluster.dask.jobs.scaler import JobScaler
from tests.cluster.conftest import compute
from tests.cluster.dask.batch_jobs import (
    batch_job_states,
    occupy,
    prepend_to_command,
    record_worker_counts,
    tiles,
)
from tests.cluster.dask.conftest import MakeCluster
from tests.cluster.dask.gated import Gate, gated
from tests.support.waiting import eventually_sync
from tools.slurm import LocalSlurm

REFUSAL = "sbatch: error: QOSMaxSubmitJobPerUserLimit"


def names(found: "Future[list[Any]]") -> list[str]:
    return [tile["name"] for tile in found.result(timeout=60)]


def test_work_starts_with_the_first_worker_and_what_the_others_wait_for_is_reported(
    slurm: LocalSlurm, make_batch_cluster: MakeCluster, gate: Gate, executor: ThreadPoolExecutor
) -> None:
    occupy(slurm, "node1", 16)
    occupy(slurm, "node2", 15)
    last_core = occupy(slurm, "node2", 1)
    cluster = make_batch_cluster(nb_workers=3)
    counts = record_worker_counts(cluster)
    found = executor.submit(compute, cluster, tiles(cluster, gate.folder, 6, gated))
    eventually_sync(lambda: counts and "3 jobs in the queue (" in counts[-1].waiting_for)
    assert not gate.starts()
    slurm.queue.cancel(last_core)
    eventually_sync(lambda: counts[-1].present == 1, 60)  # before the tiles end
    gate.open()
    assert names(found) == [f"tile-{n}" for n in range(6)]
    assert {(each.present, each.asked) for each in counts} == {(0, 3), (1, 3)}
    assert counts[-1].waiting_for.startswith(("2 jobs in the queue (", "3 jobs in the queue ("))
    assert len({start.job for start in gate.starts()}) == 1


def test_a_run_completes_with_the_batch_jobs_that_the_nodes_have_room_for(
    slurm: LocalSlurm, make_batch_cluster: MakeCluster, gate: Gate
) -> None:
    occupy(slurm, "node1", 16)
    cluster = make_batch_cluster(nb_workers=4, processes_per_job=2, cores_per_job=16)
    counts = record_worker_counts(cluster)
    found = compute(cluster, tiles(cluster, gate.folder, 8))
    assert [tile["name"] for tile in found] == [f"tile-{n}" for n in range(8)]
    assert max(each.present for each in counts) <= 2
    assert batch_job_states(slurm) == ["PENDING", "RUNNING"]


def test_a_run_starts_with_the_batch_jobs_that_are_accepted_and_retries_the_others(
    make_batch_cluster: MakeCluster,
    gate: Gate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    limit, first = tmp_path / "limit", tmp_path / "first"
    limit.touch()
    refuse = f"[ -e {limit} ] && ! mkdir {first} 2>/dev/null && {{ echo '{REFUSAL}' >&2; exit 1; }}"
    prepend_to_command("sbatch", refuse, tmp_path, monkeypatch)
    cluster = make_batch_cluster(nb_workers=2)
    found = compute(cluster, tiles(cluster, gate.folder, 3))
    assert len(found) == 3
    assert f"only 1 of 2 batch jobs accepted: {REFUSAL}" in caplog.text
    counts = record_worker_counts(cluster)
    compute(cluster, tiles(cluster, gate.folder, 1))
    assert counts[-1].waiting_for == f"others refused: {REFUSAL}"
    limit.unlink()
    eventually_sync(lambda: _present(cluster, gate, counts) == 2, 60)


def _present(cluster: Any, gate: Gate, counts: list[WorkerCount]) -> int:
    compute(cluster, tiles(cluster, gate.folder, 1))
    return counts[-1].present


def test_batch_jobs_with_connected_workers_are_not_replaced_when_the_queue_shows_nothing(
    slurm: LocalSlurm,
    make_batch_cluster: MakeCluster,
    gate: Gate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = make_batch_cluster(nb_workers=2, processes_per_job=2)
    compute(cluster, tiles(cluster, gate.folder, 1))
    asked = tmp_path / "asked"
    asked.touch()
    nothing = f'case "$*" in *%T*%r*%j*) ;; *) echo x >> {asked}; exit 0;; esac'
    prepend_to_command("squeue", nothing, tmp_path, monkeypatch)
    eventually_sync(lambda: len(asked.read_text()) > 6)
    assert batch_job_states(slurm) == ["RUNNING"]


def test_a_worker_that_came_and_went_between_two_polls_has_connected() -> None:
    connections, scheduler = WorkerConnections(), SimpleNamespace(workers={})
    scheduler.workers["tls://1"] = SimpleNamespace(name="batuta-1-0")
    workers = ["batuta-1-0", "batuta-1-1"]
    assert not connections.have_connected(workers)
    assert connections.disconnected_s(workers) == math.inf
    connections.add_worker(scheduler, "tls://1")
    assert connections.disconnected_s(workers) == 0
    connections.remove_worker(scheduler, "tls://1", stimulus_id="lost")
    assert connections.have_connected(workers)
    assert 0 <= connections.disconnected_s(workers) < 60
    connections.forget(workers)
    assert not connections.have_connected(workers)


def test_a_batch_job_that_is_cancelled_before_the_next_poll_is_no_false_start(
    slurm: LocalSlurm,
    make_batch_cluster: MakeCluster,
    gate: Gate,
    executor: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    slept: list[bool] = []
    reconcile = JobScaler.reconcile

    async def reconcile_late(scaler: JobScaler, present: int) -> WorkerCount:
        """Sleep through the life of the first worker."""
        if present and not slept:
            slept.append(True)
            (start,) = await asyncio.to_thread(gate.wait_for_starts, 1)
            await asyncio.to_thread(slurm.queue.cancel, int(start.job))
            workers = scaler._cluster.scheduler.workers
            await asyncio.to_thread(eventually_sync, lambda: not workers, 60)
            gate.open()
        return await reconcile(scaler, present)

    monkeypatch.setattr(JobScaler, "reconcile", reconcile_late)
    cluster = make_batch_cluster(nb_workers=1)
    found = executor.submit(compute, cluster, tiles(cluster, gate.folder, 1, gated))
    assert names(found) == ["tile-0"]
    assert re.search(r"batch job \d+ ended \(\w+\): submitting another", caplog.text)
    assert "before its workers connected" not in caplog.text
