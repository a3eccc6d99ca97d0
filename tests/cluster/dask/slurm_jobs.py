"""What tests ask of the queue, and of the clusters whose workers are in it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from batuta.cluster.contract import WorkerCount
from tests.cluster.dask.gated import at_once
from tests.support.checkout import PYTHON_PATH
from tests.support.waiting import eventually_sync
from tools.slurm import LocalSlurm

SLURM: dict[str, Any] = {"mode": "slurm_dask", "account": "observatory", "max_ram_per_worker": 500}
PBS: dict[str, Any] = {"mode": "pbs_dask", "max_ram_per_worker": 500}

ENDING_S = 15.0
"""How long jobs that are cancelled may take to end, on a loaded machine."""


def hold(slurm: LocalSlurm, node: str, cpus: int) -> int:
    """Take processors of a node; give the number of the job."""
    job = slurm.queue.submit("exec sleep 600", f"--nodelist={node}", f"--cpus-per-task={cpus}")
    slurm.queue.wait_for_state(job, "RUNNING")
    return job


def of_batuta(slurm: LocalSlurm) -> list[str]:
    """List the states of the jobs of clusters that are not over."""
    jobs = slurm.queue.active_jobs()
    return sorted(job.state for job in jobs if job.name.startswith("batuta-"))


def nothing_left(slurm: LocalSlurm, folder: Path, timeout_s: float = ENDING_S) -> bool:
    """Wait until jobs, their processes and the certificates in `folder` are gone."""
    return eventually_sync(lambda: not _left(slurm, folder), timeout_s)


def _left(slurm: LocalSlurm, folder: Path) -> list[Any]:
    return [*of_batuta(slurm), *worker_processes(slurm), *folder.glob(".batuta-tls-*")]


def worker_processes(slurm: LocalSlurm) -> list[int]:
    """List the processes of the jobs of clusters."""
    jobs = [each for each in slurm.processes() if each.is_job]
    return [each.pid for each in jobs if each.environment["SLURM_JOB_NAME"].startswith("batuta-")]


def told_by(cluster: Any) -> list[WorkerCount]:
    """List what the cluster tells of its workers, from now on."""
    told: list[WorkerCount] = []
    cluster.on_workers = told.append
    return told


def tiles(cluster: Any, folder: Path, count: int, task: Any = at_once) -> list[Any]:
    """Declare so many tiles, named by their ranks."""
    return [cluster.create_task(task)(str(folder), f"tile-{n}") for n in range(count)]


def put_before(command: str, script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have lines of shell run before a command of the batch system."""
    front = folder / "bin" / command
    front.parent.mkdir()
    front.write_text(f'#!/bin/sh\n{script}\nexec {shutil.which(command)} "$@"\n')
    front.chmod(0o755)
    monkeypatch.setenv("PATH", f"{front.parent}{os.pathsep}{os.environ['PATH']}")


@contextmanager
def program(folder: Path, conf: dict[str, Any], *more: str) -> Iterator["subprocess.Popen[str]"]:
    """Run `tiles_program` in a session of its own, as a terminal does."""
    module = "tests.cluster.dask.tiles_program"
    with subprocess.Popen(
        [sys.executable, "-m", module, str(folder), json.dumps(conf), *more],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": PYTHON_PATH},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
