"""Batch jobs submitted by the commands of PBS are replaced when deleted, and none is left."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cluster.conftest import compute
from tests.cluster.dask.batch_jobs import (
    PBS,
    batch_job_states,
    occupy,
    program,
    record_worker_counts,
    tiles,
    wait_for_cleanup,
)
from tests.cluster.dask.conftest import MakeCluster
from tests.cluster.dask.gated import Gate, gated
from tests.support.waiting import eventually_sync
from tools.slurm import LocalSlurm


def test_a_tile_whose_batch_job_is_deleted_is_computed_in_another(
    make_batch_cluster: MakeCluster,
    gate: Gate,
    executor: ThreadPoolExecutor,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = make_batch_cluster(**PBS, nb_workers=1)
    found = executor.submit(compute, cluster, tiles(cluster, gate.folder, 4, gated))
    (deleted,) = gate.wait_for_starts(1)
    subprocess.run(["qdel", deleted.job], check=True)
    eventually_sync(lambda: len({start.job for start in gate.starts()}) == 2, 60)
    gate.open()
    assert [tile["name"] for tile in found.result(timeout=60)] == [f"tile-{n}" for n in range(4)]
    assert f"batch job {deleted.job} ended (" in caplog.text


def test_waiting_batch_jobs_are_reported_and_those_of_a_killed_program_are_deleted(
    slurm: LocalSlurm,
    make_batch_cluster: MakeCluster,
    gate: Gate,
    tmp_path: Path,
    executor: ThreadPoolExecutor,
) -> None:
    occupy(slurm, "node2", 16)
    occupy(slurm, "node1", 15)
    with program(tmp_path, {**PBS, "nb_workers": 3}) as process:
        gate.wait_for_starts(1)
        assert batch_job_states(slurm) == ["PENDING", "PENDING", "RUNNING"]
        process.kill()
    assert wait_for_cleanup(slurm, tmp_path)
    cluster = make_batch_cluster(**PBS)
    counts = record_worker_counts(cluster)
    found = executor.submit(compute, cluster, tiles(cluster, gate.folder, 1, gated))
    eventually_sync(lambda: counts and counts[-1].waiting_for == "1 job in the queue (state Q)")
    gate.open()
    assert found.result(timeout=60)
