"""Jobs that wait in the queue of a real Slurm, and those that are not granted."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from batuta.cluster.contract import WorkerCount
from tests.cluster.conftest import compute
from tests.cluster.dask.conftest import MakeCluster
from tests.cluster.dask.gated import Gate
from tests.cluster.dask.slurm_jobs import hold, of_batuta, put_before, tiles, told_by
from tests.support.waiting import eventually_sync
from tools.slurm import LocalSlurm

REFUSAL = "sbatch: error: QOSMaxSubmitJobPerUserLimit"


def names(found: "Future[list[Any]]") -> list[str]:
    return [tile["name"] for tile in found.result(timeout=60)]


def test_work_starts_with_the_first_worker_and_it_is_told_what_the_others_wait_for(
    slurm: LocalSlurm, make_jobs_cluster: MakeCluster, gate: Gate, aside: ThreadPoolExecutor
) -> None:
    hold(slurm, "node1", 16)
    hold(slurm, "node2", 15)
    last_place = hold(slurm, "node2", 1)
    cluster = make_jobs_cluster(nb_workers=3)
    told = told_by(cluster)
    found = aside.submit(compute, cluster, tiles(cluster, gate.folder, 6))
    eventually_sync(lambda: told and "3 jobs in the queue (" in told[-1].waiting_for)
    assert not gate.begun()
    slurm.queue.cancel(last_place)
    assert names(found) == [f"tile-{n}" for n in range(6)]
    assert {(there.present, there.asked) for there in told} == {(0, 3), (1, 3)}
    assert told[-1].waiting_for.startswith(("2 jobs in the queue (", "3 jobs in the queue ("))
    assert len({begun.job for begun in gate.begun()}) == 1


def test_a_run_ends_whole_with_the_jobs_that_the_nodes_can_hold(
    slurm: LocalSlurm, make_jobs_cluster: MakeCluster, gate: Gate
) -> None:
    cluster = make_jobs_cluster(nb_workers=6, processes_per_job=2, cores_per_job=16)
    told = told_by(cluster)
    found = compute(cluster, tiles(cluster, gate.folder, 12))
    assert [tile["name"] for tile in found] == [f"tile-{n}" for n in range(12)]
    assert max(there.present for there in told) <= 4
    assert of_batuta(slurm) == ["PENDING", "RUNNING", "RUNNING"]


def test_fewer_jobs_are_granted_than_asked_and_the_others_are_asked_for_again(
    make_jobs_cluster: MakeCluster,
    gate: Gate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    limit, first = tmp_path / "limit", tmp_path / "first"
    limit.touch()
    refuse = f"[ -e {limit} ] && ! mkdir {first} 2>/dev/null && {{ echo '{REFUSAL}' >&2; exit 1; }}"
    put_before("sbatch", refuse, tmp_path, monkeypatch)
    cluster = make_jobs_cluster(nb_workers=3)
    found = compute(cluster, tiles(cluster, gate.folder, 3))
    assert len(found) == 3
    assert f"1 of 3 jobs are granted: {REFUSAL}" in caplog.text
    told = told_by(cluster)
    compute(cluster, tiles(cluster, gate.folder, 1))
    assert told[-1].waiting_for == f"others are refused: {REFUSAL}"
    limit.unlink()
    eventually_sync(lambda: _present(cluster, gate, told) == 3, 60)


def _present(cluster: Any, gate: Gate, told: list[WorkerCount]) -> int:
    compute(cluster, tiles(cluster, gate.folder, 1))
    return told[-1].present


def test_a_queue_that_shows_nothing_does_not_have_jobs_that_work_replaced(
    slurm: LocalSlurm,
    make_jobs_cluster: MakeCluster,
    gate: Gate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = make_jobs_cluster(nb_workers=2, processes_per_job=2)
    compute(cluster, tiles(cluster, gate.folder, 1))
    asked = tmp_path / "asked"
    asked.touch()
    nothing = f'case "$*" in *%T*%r*%j*) ;; *) echo x >> {asked}; exit 0;; esac'
    put_before("squeue", nothing, tmp_path, monkeypatch)
    eventually_sync(lambda: len(asked.read_text()) > 6)
    assert of_batuta(slurm) == ["RUNNING"]
