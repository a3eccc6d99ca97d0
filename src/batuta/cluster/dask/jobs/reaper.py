"""The side of the guard that its owner holds: it tells the guard of jobs and folders."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from batuta.cluster.dask.jobs import reaper_main

LOG: Final = logging.getLogger(__name__)

PATIENCE_S: Final = 60.0
"""How long the end of a run waits for the batch system to cancel its jobs."""


class Guard:
    """The process that cancels the jobs: when it is told to, and when this one is killed.

    Parameters
    ----------
    cancel : sequence of str
        The command that cancels the jobs named after it.
    cancel_named : sequence of str
        The command that cancels all jobs of this run: those too whose submission was under way
        when this process was killed. Empty where the batch system has none.
    """

    def __init__(self, cancel: Sequence[str], cancel_named: Sequence[str]) -> None:
        program = [sys.executable, reaper_main.__file__, str(os.getpid())]
        self._command = [*program, *cancel, reaper_main.THEN, *cancel_named]
        self._kept: dict[str, None] = {}
        """The lines that tell what is to be cancelled and removed."""
        self._process = self._started()

    def keep_job(self, job_id: str) -> None:
        """Have a job cancelled in the end."""
        self._keep(f"job {job_id}")

    def keep_folder(self, folder: Path) -> None:
        """Have a folder removed in the end."""
        self._keep(f"folder {folder}")

    def forget_job(self, job_id: str) -> None:
        """Record that a job is over."""
        self._kept.pop(f"job {job_id}", None)
        self._tell([f"ended {job_id}"])

    def close(self) -> None:
        """Have all cancelled and removed."""
        self._tell(["close "])
        try:
            _, problem = self._process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._leave()
            problem = b"the batch system does not answer; cancelling goes on in the background"
        if problem:
            LOG.warning("%s", problem.decode().strip())

    def _leave(self) -> None:
        """Let it go on by itself; somebody has to take its exit code."""
        if self._process.stderr is not None:
            self._process.stderr.close()
        threading.Thread(target=self._process.wait, daemon=True).start()

    def _keep(self, line: str) -> None:
        if line not in self._kept:
            self._kept[line] = None
            self._tell([line])

    def _tell(self, lines: Sequence[str]) -> None:
        try:
            self._write(lines)
        except BrokenPipeError:  # somebody killed it: another takes its place
            self._process.communicate()
            self._process = self._started()
            self._write([*self._kept, *lines])

    def _write(self, lines: Sequence[str]) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        self._process.stdin.write("".join(f"{line}\n" for line in lines).encode())

    def _started(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self._command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is not for it
        )
