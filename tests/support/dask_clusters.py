"""Dask clusters for tests: the configuration of each dask mode, with what it needs running."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import PYTHON_PATH
from tests.support.slurm import skip_without_slurm
from tests.support.waiting import eventually_sync
from tools.slurm import LocalSlurm

_CHEAP = {
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "forkserver",
}
"""A cluster idles for most of a session: dask's statistical profiler wakes each worker 100 times a
second. Workers that tests kill are forked again, rather than importing everything again."""

_WORKER_OPTIONS = (
    "--nworkers=2",
    "--nthreads=1",
    "--preload-nanny=batuta.cluster.dask.worker_family",
)
"""The last one as the documentation advises: what tasks started ends with their worker."""

DASK_MODES = ("local_dask", "dask", "slurm_dask", "pbs_dask")


def dask_configuration(mode: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the configuration of a dask mode, after starting what it runs on."""
    if mode == "dask":
        address = request.getfixturevalue("dask_scheduler_address")
        return {"mode": mode, "scheduler_address": address}
    if mode == "local_dask":
        return {"mode": mode}
    skip_without_slurm()
    request.getfixturevalue("slurm_environment")
    if mode == "slurm_dask":
        return {"mode": mode, "account": "observatory"}
    # The commands of PBS in front of Slurm write to the current folder, whatever their options.
    request.getfixturevalue("monkeypatch").chdir(request.getfixturevalue("tmp_path"))
    return {"mode": mode}


def light_configuration(mode: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """`dask_configuration` with one worker, where each is in a batch job.

    It starts as a program does, in seconds of processor time. `tests/cluster` has several.
    """
    conf = dask_configuration(mode, request)
    return {**conf, "nb_workers": 1} if mode in {"slurm_dask", "pbs_dask"} else conf


@pytest.fixture(scope="session")
def slurm_environment(shared_slurm: LocalSlurm) -> Iterator[LocalSlurm]:
    """Let commands of this process, and programs that it starts, use Slurm."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in shared_slurm.environment.items():
            patch.setenv(name, value)
        yield shared_slurm


@pytest.fixture(scope="module")
def dask_scheduler_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster started by hand: a scheduler and two worker processes.

    One for each module: a cluster that idles takes a fifth of a core, more in a session than all
    starts together.
    """
    with manual_cluster(tmp_path_factory.mktemp("dask")) as address:
        yield address


@contextmanager
def manual_cluster(folder: Path) -> Iterator[str]:
    """Start a scheduler and two workers by dask's own commands; yield the address."""
    with (
        scheduler_alone(folder) as address,
        _running(folder, "worker", address, *_WORKER_OPTIONS),
    ):
        yield address


@contextmanager
def scheduler_alone(folder: Path) -> Iterator[str]:
    """Start a scheduler without workers; yield its address."""
    file = folder / "scheduler.json"
    options = ("--host", "127.0.0.1", "--port", "0", f"--scheduler-file={file}")
    with _running(folder, "scheduler", *options):
        eventually_sync(lambda: file.exists() and '"address"' in file.read_text(), 60)
        yield file.read_text().split('"address": "')[1].split('"')[0]


@contextmanager
def _running(folder: Path, what: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--no-dashboard", *options]
    with (folder / f"{what}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": PYTHON_PATH} | _CHEAP,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
