"""Batch jobs, nodes and workers lost in the middle of a tile: every tile is saved, once."""

import json
import os
import re
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from batuta.cluster import TaskFailedError, WorkerLostError
from batuta.cluster.contract import WorkerCount
from batuta.cluster.dask.engine import worker_loss
from tests.cluster.conftest import compute
from tests.cluster.dask.batch_jobs import (
    SLURM,
    batch_job_states,
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

TILES = [f"tile-{n}" for n in range(4)]


def test_a_tile_whose_batch_job_is_cancelled_is_computed_in_another_and_saved_once(
    slurm: LocalSlurm, gate: Gate, tmp_path: Path
) -> None:
    with program(tmp_path, {**SLURM, "nb_workers": 1}, "4") as process:
        (cancelled,) = gate.wait_for_starts(1)
        slurm.queue.cancel(int(cancelled.job))
        eventually_sync(lambda: len({start.job for start in gate.starts()}) == 2, 60)
        gate.open()
        _, output = process.communicate(timeout=60)
    assert process.returncode == 0
    col = cancelled.name.removeprefix("tile-")
    assert f"heights[0, {col}]" in _line_with(" was lost; running again: ", output)
    # Slurm says COMPLETING until the processes of a cancelled job have exited.
    ended = (
        rf"batuta: batch job {cancelled.job} ended \((CANCELLED|COMPLETING)\): submitting another\n"
    )
    assert re.search(ended, output)
    assert _saved(tmp_path) == TILES
    calls = Counter(start.name for start in gate.starts())
    assert set(calls) == set(TILES)
    assert calls[cancelled.name] == 2
    assert wait_for_cleanup(slurm, tmp_path)


def _line_with(words: str, output: str) -> str:
    (line,) = [line for line in output.splitlines() if words in line]
    return line


def _saved(folder: Path) -> list[str]:
    """Return the names of the tiles in the product; check that its manifest says it is complete."""
    manifest = json.loads((folder / "heights.json.manifest.json").read_text())
    assert manifest["complete"]
    assert manifest["tiles"]["saved"] == manifest["tiles"]["expected"]
    return sorted(
        tile["data"]["name"] for tile in json.loads((folder / "heights.json").read_text())
    )


def test_submission_is_retried_after_a_refusal_even_when_no_batch_job_is_left(
    slurm: LocalSlurm,
    make_batch_cluster: MakeCluster,
    gate: Gate,
    tmp_path: Path,
    executor: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = tmp_path / "outage"
    refuse = (
        f"[ -e {outage} ] && {{ rm {outage}; echo 'sbatch: error: Socket timed out' >&2; exit 1; }}"
    )
    prepend_to_command("sbatch", refuse, tmp_path, monkeypatch)
    cluster = make_batch_cluster(nb_workers=1)
    found = executor.submit(compute, cluster, tiles(cluster, gate.folder, 1, gated))
    (cancelled,) = gate.wait_for_starts(1)
    outage.touch()
    slurm.queue.cancel(int(cancelled.job))
    gate.wait_for_starts(2)
    gate.open()
    assert [tile["name"] for tile in found.result(timeout=60)] == ["tile-0"]
    assert "only 0 of 1 batch jobs accepted: sbatch: error: Socket timed out" in caplog.text


def test_the_tiles_of_a_node_without_power_are_computed_on_another(
    slurm: LocalSlurm,
    make_batch_cluster: MakeCluster,
    gate: Gate,
    executor: ThreadPoolExecutor,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = make_batch_cluster(nb_workers=1, cores_per_job=16)
    found = executor.submit(compute, cluster, tiles(cluster, gate.folder, 4, gated))
    (lost,) = gate.wait_for_starts(1)
    node = slurm.queue.job(int(lost.job)).node
    slurm.power_off(node)
    slurm.queue.set_down(node)
    eventually_sync(lambda: f"batch job {lost.job} ended (NODE_FAIL): submitting" in caplog.text)
    gate.open()
    assert [tile["name"] for tile in found.result(timeout=60)] == TILES


def test_the_jobs_of_a_node_whose_slurmd_is_killed_go_on_and_end_with_the_run(
    slurm: LocalSlurm, make_batch_cluster: MakeCluster, gate: Gate, executor: ThreadPoolExecutor
) -> None:
    cluster = make_batch_cluster(nb_workers=1, cores_per_job=16)
    found = executor.submit(compute, cluster, tiles(cluster, gate.folder, 4, gated))
    for start in gate.wait_for_starts(1):
        slurm.kill_slurmd(slurm.queue.job(int(start.job)).node)
    gate.open()
    assert [tile["name"] for tile in found.result(timeout=60)] == TILES
    assert Counter(start.name for start in gate.starts()) == Counter(TILES)
    cluster.cleanup()  # Slurm cannot end them: they do it themselves
    eventually_sync(lambda: not worker_processes(slurm))
    slurm.restore()


def test_workers_leave_before_their_walltime_and_others_compute_their_tiles(
    make_batch_cluster: MakeCluster,
    gate: Gate,
    executor: ThreadPoolExecutor,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = make_batch_cluster(
        nb_workers=1, worker_extra_args=["--lifetime 5s", "--lifetime-stagger 0s"]
    )
    counts = record_worker_counts(cluster)
    found = executor.submit(compute, cluster, tiles(cluster, gate.folder, 4, gated))
    gate.wait_for_starts(1)
    eventually_sync(lambda: has_left(counts), 60)
    gate.open()
    assert [tile["name"] for tile in found.result(timeout=60)] == TILES
    assert len({start.job for start in gate.starts()}) > 1
    # Those that replace them may leave too, on a machine so loaded that 5 s are not enough.
    assert caplog.text.count(" left; running again: ") >= 1


def has_left(counts: list[WorkerCount]) -> bool:
    """Whether a worker was there and left: one that replaces it may be there already."""
    present = [each.present for each in counts]
    return 1 in present and 0 in present[present.index(1) :]


def test_a_tile_that_takes_longer_than_the_lifetime_of_workers_fails_in_the_end(
    make_batch_cluster: MakeCluster, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_loss, "MAX_DEPARTURES", 1)
    lifetime = ["--lifetime 3s", "--lifetime-stagger 0s"]
    cluster = make_batch_cluster(nb_workers=1, worker_extra_args=lifetime)
    (error,) = compute(cluster, tiles(cluster, gate.folder, 1, gated))
    assert isinstance(error, TaskFailedError)
    assert isinstance(error.__cause__, WorkerLostError)
    assert "it may take longer than their walltime" in error.reason


def test_a_worker_that_is_killed_starts_again_in_the_same_job(
    slurm: LocalSlurm, make_batch_cluster: MakeCluster, gate: Gate, executor: ThreadPoolExecutor
) -> None:
    cluster = make_batch_cluster(nb_workers=2, processes_per_job=2)
    found = executor.submit(compute, cluster, tiles(cluster, gate.folder, 4, gated))
    killed, _ = gate.wait_for_starts(2)
    os.kill(killed.pid, signal.SIGKILL)
    eventually_sync(lambda: len({start.pid for start in gate.starts()}) == 3, 60)
    gate.open()
    assert [tile["name"] for tile in found.result(timeout=60)] == TILES
    assert {start.job for start in gate.starts()} == {killed.job}
    assert batch_job_states(slurm) == ["RUNNING"]
