"""What the main process does with one worker process."""

import signal
from pathlib import Path

from batuta.cluster.local.worker_handle import PoolSettings, WorkerHandle


class EndingProcess:
    """A supervisor that was killed: its worker has ended, and it does so a moment later."""

    exitcode: int | None = None
    family_ends = False

    def join(self, timeout: float | None = None) -> None:  # noqa: ARG002 - as of multiprocessing
        self.exitcode = -signal.SIGKILL

    def close(self) -> None:
        """Free nothing."""


def test_a_supervisor_that_ends_just_now_is_not_taken_for_one_that_we_killed(
    tmp_path: Path,
) -> None:
    settings = PoolSettings(
        start_method="fork",
        folder=str(tmp_path),
        handover_folder=str(tmp_path),
        log_folder=None,
        log_level=0,
    )
    worker = WorkerHandle(settings, "w")
    worker.ready = True
    ending = EndingProcess()
    worker._child = ending
    worker.reap()
    assert worker.exit_code == -signal.SIGKILL
    # Then `FamilyProcess.join` looks for what the worker started.
    assert not ending.family_ends
