"""A real Slurm for the tests that use one, stopped however they end."""

import fcntl
import getpass
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tools.slurm import INSTALL, LocalSlurm, missing_programs
from tools.slurm.locking import folder_lock

REQUIRED_VARIABLE = "BATUTA_TESTS_REQUIRE"
"""Comma-separated names of programs without which tests fail, rather than being skipped."""


def skip_without_slurm() -> None:
    """Skip a test if Slurm is not installed; fail it if `REQUIRED_VARIABLE` names Slurm."""
    missing = missing_programs()
    if not missing:
        return
    reason = f"Slurm is not installed: no {', '.join(missing)} ({INSTALL})"
    if "slurm" in os.environ.get(REQUIRED_VARIABLE, "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_slurm() -> Iterator[LocalSlurm]:
    """One Slurm for the tests of a process; use `slurm`, which restores it after each test."""
    skip_without_slurm()
    with running_slurm() as slurm:
        yield slurm


@pytest.fixture
def slurm(
    shared_slurm: LocalSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalSlurm]:
    """A Slurm with an empty queue and idle nodes, that a test may break.

    Commands and programs use it: sbatch, qsub, dask-jobqueue. Batch jobs write to `tmp_path`.
    """
    for name, value in shared_slurm.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    yield shared_slurm
    shared_slurm.restore()


@contextmanager
def running_slurm() -> Iterator[LocalSlurm]:
    """Run a Slurm for the duration of the block, which no other process of tests uses."""
    root = Path(tempfile.gettempdir()) / f"batuta-tests-{getpass.getuser()}"
    name = uuid.uuid4().hex[:8]
    lock = root / f"{name}.lock"
    with ExitStack() as stack:
        with folder_lock(root):
            _stop_abandoned(root)
            held = stack.enter_context(lock.open("w"))
            fcntl.flock(held, fcntl.LOCK_EX)
        stack.callback(lock.unlink)
        slurm = LocalSlurm(root / name)
        stack.callback(slurm.stop)
        slurm.start()
        yield slurm


def _stop_abandoned(root: Path) -> None:
    """Stop each Slurm whose tests were killed: its lock is free."""
    for lock in root.glob("*.lock"):
        with lock.open() as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            LocalSlurm(root / lock.stem).stop()
            lock.unlink()
