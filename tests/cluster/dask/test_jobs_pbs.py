"""The commands of PBS: jobs are deleted in the middle, replaced, and none is left."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cluster.conftest import compute
from tests.cluster.dask.conftest import MakeCluster
from tests.cluster.dask.gated import Gate, gated
from tests.cluster.dask.slurm_jobs import (
    PBS,
    hold,
    nothing_left,
    of_batuta,
    program,
    tiles,
    told_by,
)
from tests.support.waiting import eventually_sync
from tools.slurm import LocalSlurm


def test_a_tile_whose_job_is_deleted_is_computed_by_another(
    make_jobs_cluster: MakeCluster,
    gate: Gate,
    aside: ThreadPoolExecutor,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = make_jobs_cluster(**PBS)
    found = aside.submit(compute, cluster, tiles(cluster, gate.folder, 4, gated))
    deleted, _ = gate.wait_for_begun(2)
    subprocess.run(["qdel", deleted.job], check=True)
    eventually_sync(lambda: len({begun.job for begun in gate.begun()}) == 3, 60)
    gate.open()
    assert [tile["name"] for tile in found.result(timeout=60)] == [f"tile-{n}" for n in range(4)]
    assert f"job {deleted.job} is over (" in caplog.text


def test_jobs_that_wait_are_told_and_those_of_a_killed_program_are_deleted(
    slurm: LocalSlurm,
    make_jobs_cluster: MakeCluster,
    gate: Gate,
    tmp_path: Path,
    aside: ThreadPoolExecutor,
) -> None:
    hold(slurm, "node2", 16)
    hold(slurm, "node1", 15)
    with program(tmp_path, {**PBS, "nb_workers": 3}) as process:
        gate.wait_for_begun(1)
        assert of_batuta(slurm) == ["PENDING", "PENDING", "RUNNING"]
        process.kill()
    assert nothing_left(slurm, tmp_path)
    cluster = make_jobs_cluster(**PBS)
    told = told_by(cluster)
    found = aside.submit(compute, cluster, tiles(cluster, gate.folder, 1, gated))
    eventually_sync(lambda: told and told[-1].waiting_for == "1 job in the queue (state Q)")
    gate.open()
    assert found.result(timeout=60)
