"""Starting the process that cancels batch jobs, and telling it which."""

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

CANCEL_TIMEOUT_S: Final = 60.0
"""How long the end of a run waits for the batch system to cancel its batch jobs."""


class JobReaper:
    """The process that cancels batch jobs: on `close`, and when this process is killed.

    Not thread-safe, and need not be: a cluster registers folders before its monitor starts, batch
    jobs in the event loop where the monitor runs, and closes after the monitor has stopped.

    Parameters
    ----------
    cancel : sequence of str
        The command that cancels the batch jobs whose ids follow it.
    cancel_by_name : sequence of str
        The command that cancels all batch jobs of this run, including those whose submission was
        under way when this process was killed. Empty where the batch system has none.
    """

    def __init__(self, cancel: Sequence[str], cancel_by_name: Sequence[str]) -> None:
        program = [sys.executable, reaper_main.__file__, str(os.getpid())]
        self._command = [*program, *cancel, reaper_main.SEPARATOR, *cancel_by_name]
        self._registered: dict[str, None] = {}
        """The lines that name what is to be cancelled and removed, in order."""
        self._process = self._start()

    def register_job(self, job_id: str) -> None:
        """Register a batch job to cancel at the end."""
        self._register(f"job {job_id}")

    def register_folder(self, folder: Path) -> None:
        """Register a folder to remove at the end."""
        self._register(f"folder {folder}")

    def unregister_job(self, job_id: str) -> None:
        """Record that a batch job has ended."""
        self._registered.pop(f"job {job_id}", None)
        self._send([f"ended {job_id}"])

    def close(self) -> None:
        """Cancel and remove everything registered; log what could not be."""
        self._send(["close "])
        try:
            _, problem = self._process.communicate(timeout=CANCEL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._detach()
            problem = (
                f"the batch system has not answered for {CANCEL_TIMEOUT_S:g} s; batch jobs are"
                " still being cancelled in the background"
            ).encode()
        if problem:
            LOG.warning("%s", problem.decode().strip())

    def _detach(self) -> None:
        """Let the process finish on its own; a thread waits for it, so that no zombie is left."""
        if self._process.stderr is not None:
            self._process.stderr.close()
        threading.Thread(target=self._process.wait, daemon=True).start()

    def _register(self, line: str) -> None:
        if line not in self._registered:
            self._registered[line] = None
            self._send([line])

    def _send(self, lines: Sequence[str]) -> None:
        try:
            self._write(lines)
        except BrokenPipeError:
            # The process was killed, and what it knew is lost with it: start another and repeat
            # all of it. `lines` may be among what is registered; registering twice is harmless.
            self._process.communicate()
            self._process = self._start()
            self._write([*self._registered, *lines])

    def _write(self, lines: Sequence[str]) -> None:
        assert self._process.stdin is not None  # noqa: S101 - a pipe, see `_start`
        self._process.stdin.write("".join(f"{line}\n" for line in lines).encode())

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self._command,
            # Unbuffered: a line that waits in a buffer is lost when this process is killed.
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # Ctrl-C in a terminal reaches the whole process group: this one must outlive it.
            start_new_session=True,
        )
