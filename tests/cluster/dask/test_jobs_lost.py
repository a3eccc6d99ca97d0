"""Jobs, nodes and workers that end in the middle of a tile: every tile is saved, once."""

import json
import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from batuta.cluster import TaskFailedError, WorkerLostError
from batuta.cluster.dask.engine import worker_loss
from tests.cluster.conftest import compute
from tests.cluster.dask.conftest import MakeCluster
from tests.cluster.dask.gated import Gate, gated
from tests.cluster.dask.slurm_jobs import (
    SLURM,
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

TILES = [f"tile-{n}" for n in range(4)]


def test_a_tile_whose_job_is_cancelled_is_computed_by_another_and_saved_once(
    slurm: LocalSlurm, gate: Gate, tmp_path: Path
) -> None:
    with program(tmp_path, SLURM, "4") as process:
        cancelled, _ = gate.wait_for_begun(2)
        slurm.queue.cancel(int(cancelled.job))
        eventually_sync(lambda: len({begun.job for begun in gate.begun()}) == 3, 60)
        gate.open()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    col = cancelled.name.removeprefix("tile-")
    assert f"heights[0, {col}]" in _line_with("a worker is lost (", said)
    assert f"batuta: job {cancelled.job} is over (CANCELLED): another takes its place\n" in said
    assert _saved(tmp_path) == TILES
    calls = Counter(begun.name for begun in gate.begun())
    assert set(calls) == set(TILES)
    assert calls[cancelled.name] == 2
    assert nothing_left(slurm, tmp_path)


def _line_with(words: str, said: str) -> str:
    (line,) = [line for line in said.splitlines() if words in line]
    return line


def _saved(folder: Path) -> list[str]:
    """List the tiles in the product, as it is told to be whole."""
    account = json.loads((folder / "heights.json.manifest.json").read_text())
    assert account["complete"]
    assert account["tiles"]["saved"] == account["tiles"]["expected"]
    return sorted(
        tile["data"]["name"] for tile in json.loads((folder / "heights.json").read_text())
    )


def test_jobs_are_asked_for_again_after_refusals_when_none_is_left(
    slurm: LocalSlurm,
    make_jobs_cluster: MakeCluster,
    gate: Gate,
    tmp_path: Path,
    aside: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    away = tmp_path / "away"
    refuse = (
        f"[ -e {away} ] && {{ rm {away}; echo 'sbatch: error: Socket timed out' >&2; exit 1; }}"
    )
    put_before("sbatch", refuse, tmp_path, monkeypatch)
    cluster = make_jobs_cluster(nb_workers=1)
    found = aside.submit(compute, cluster, tiles(cluster, gate.folder, 1, gated))
    (cancelled,) = gate.wait_for_begun(1)
    away.touch()
    slurm.queue.cancel(int(cancelled.job))
    gate.wait_for_begun(2)
    gate.open()
    assert [tile["name"] for tile in found.result(timeout=60)] == ["tile-0"]
    assert "0 of 1 jobs are granted: sbatch: error: Socket timed out" in caplog.text


def test_the_tiles_of_a_node_without_power_are_computed_on_another(
    slurm: LocalSlurm,
    make_jobs_cluster: MakeCluster,
    gate: Gate,
    aside: ThreadPoolExecutor,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = make_jobs_cluster(nb_workers=2, cores_per_job=16)
    found = aside.submit(compute, cluster, tiles(cluster, gate.folder, 4, gated))
    lost, _ = gate.wait_for_begun(2)
    node = slurm.queue.job(int(lost.job)).node
    slurm.power_off(node)
    slurm.queue.set_down(node)
    eventually_sync(lambda: f"job {lost.job} is over (NODE_FAIL): another takes" in caplog.text)
    gate.open()
    assert [tile["name"] for tile in found.result(timeout=60)] == TILES


def test_the_jobs_of_a_node_whose_slurmd_is_killed_go_on_and_end_with_the_run(
    slurm: LocalSlurm, make_jobs_cluster: MakeCluster, gate: Gate, aside: ThreadPoolExecutor
) -> None:
    cluster = make_jobs_cluster(nb_workers=2, cores_per_job=16)
    found = aside.submit(compute, cluster, tiles(cluster, gate.folder, 4, gated))
    for begun in gate.wait_for_begun(2):
        slurm.kill_slurmd(slurm.queue.job(int(begun.job)).node)
    gate.open()
    assert [tile["name"] for tile in found.result(timeout=60)] == TILES
    assert Counter(begun.name for begun in gate.begun()) == Counter(TILES)
    cluster.cleanup()  # Slurm cannot end them: they do it themselves
    eventually_sync(lambda: not worker_processes(slurm))
    slurm.restore()


def test_workers_leave_before_their_walltime_and_their_tiles_go_to_those_that_replace_them(
    make_jobs_cluster: MakeCluster,
    gate: Gate,
    aside: ThreadPoolExecutor,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = make_jobs_cluster(
        nb_workers=2, worker_extra_args=["--lifetime 5s", "--lifetime-stagger 0s"]
    )
    told = told_by(cluster)
    found = aside.submit(compute, cluster, tiles(cluster, gate.folder, 4, gated))
    gate.wait_for_begun(2)
    eventually_sync(lambda: told[-1].present == 0)
    gate.open()
    assert [tile["name"] for tile in found.result(timeout=60)] == TILES
    assert len({begun.job for begun in gate.begun()}) > 2
    assert caplog.text.count("a worker has left (") == 2


def test_a_tile_that_takes_longer_than_workers_live_fails_in_the_end(
    make_jobs_cluster: MakeCluster, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_loss, "MAX_DEPARTURES", 1)
    lifetime = ["--lifetime 3s", "--lifetime-stagger 0s"]
    cluster = make_jobs_cluster(nb_workers=1, worker_extra_args=lifetime)
    (error,) = compute(cluster, tiles(cluster, gate.folder, 1, gated))
    assert isinstance(error, TaskFailedError)
    assert isinstance(error.__cause__, WorkerLostError)
    assert "it may take longer than their walltime" in error.reason


def test_a_worker_that_is_killed_starts_again_in_the_same_job(
    slurm: LocalSlurm, make_jobs_cluster: MakeCluster, gate: Gate, aside: ThreadPoolExecutor
) -> None:
    cluster = make_jobs_cluster(nb_workers=2, processes_per_job=2)
    found = aside.submit(compute, cluster, tiles(cluster, gate.folder, 4, gated))
    killed, _ = gate.wait_for_begun(2)
    os.kill(killed.pid, signal.SIGKILL)
    eventually_sync(lambda: len({begun.pid for begun in gate.begun()}) == 3, 60)
    gate.open()
    assert [tile["name"] for tile in found.result(timeout=60)] == TILES
    assert {begun.job for begun in gate.begun()} == {killed.job}
    assert of_batuta(slurm) == ["RUNNING"]
