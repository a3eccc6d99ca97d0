"""Helpers for clusters whose workers are in batch jobs: what is queued, runs, and is left."""

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
from tests.cluster.dask.gated import ungated
from tests.support.checkout import PYTHON_PATH
from tests.support.waiting import eventually_sync
from tools.slurm import LocalSlurm

SLURM: dict[str, Any] = {"mode": "slurm_dask", "account": "observatory", "max_ram_per_worker": 500}
PBS: dict[str, Any] = {"mode": "pbs_dask", "max_ram_per_worker": 500}

END_TIMEOUT_S = 15.0
"""How long cancelled batch jobs may take to end, on a loaded machine."""


def occupy(slurm: LocalSlurm, node: str, cpus: int) -> int:
    """Submit a batch job that occupies processors of a node; return its id once it runs."""
    job = slurm.queue.submit("exec sleep 600", f"--nodelist={node}", f"--cpus-per-task={cpus}")
    slurm.queue.wait_for_state(job, "RUNNING")
    return job


def batch_job_states(slurm: LocalSlurm) -> list[str]:
    """Return the states of the batch jobs of clusters that have not ended."""
    jobs = slurm.queue.active_jobs()
    return sorted(job.state for job in jobs if job.name.startswith("batuta-"))


def wait_for_cleanup(slurm: LocalSlurm, folder: Path, timeout_s: float = END_TIMEOUT_S) -> bool:
    """Wait until batch jobs, their processes and the certificates in `folder` are gone."""
    return eventually_sync(lambda: not _leftovers(slurm, folder), timeout_s)


def _leftovers(slurm: LocalSlurm, folder: Path) -> list[Any]:
    return [*batch_job_states(slurm), *worker_processes(slurm), *folder.glob(".batuta-tls-*")]


def worker_processes(slurm: LocalSlurm) -> list[int]:
    """Return the ids of the processes of batch jobs of clusters."""
    jobs = [each for each in slurm.processes() if each.is_job]
    return [each.pid for each in jobs if each.environment["SLURM_JOB_NAME"].startswith("batuta-")]


def record_worker_counts(cluster: Any) -> list[WorkerCount]:
    """Return a list that grows with each worker count that the cluster reports."""
    counts: list[WorkerCount] = []
    cluster.on_workers = counts.append
    return counts


def tiles(cluster: Any, folder: Path, count: int, task: Any = ungated) -> list[Any]:
    """Declare `count` tasks that make tiles, named by their ranks."""
    return [cluster.create_task(task)(str(folder), f"tile-{n}") for n in range(count)]


def prepend_to_command(
    command: str, script: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Put a wrapper before a command of the batch system that runs lines of shell first."""
    wrapper = folder / "bin" / command
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\n{script}\nexec {shutil.which(command)} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}")


@contextmanager
def program(folder: Path, conf: dict[str, Any], *more: str) -> Iterator["subprocess.Popen[str]"]:
    """Run `tiles_program` in a session of its own, as a terminal does; kill it in the end."""
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
