"""The queue of a Slurm, through its own commands."""

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from tools.slurm.errors import SlurmError

T = TypeVar("T")

_POLL_S: Final = 0.1
_COMMAND_TIMEOUT_S: Final = 30.0
_JOB_FORMAT: Final = "%A|%T|%P|%a|%N|%r|%j"
ENDED: Final = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "TIMEOUT",
    }
)
"""Final states of batch jobs."""


@dataclass(frozen=True)
class BatchJob:
    """A batch job as ``squeue`` shows it.

    Parameters
    ----------
    job_id : int
        Its number.
    state : str
        As ``PENDING``, ``RUNNING``, ``COMPLETED``.
    partition : str
        Where it was submitted to.
    account : str
        As it was submitted; ``(null)`` without one.
    node : str
        Where it runs, or ran; empty while it waits.
    reason : str
        Why it waits, or how it ended.
    name : str
        Its name.
    """

    job_id: int
    state: str
    partition: str
    account: str
    node: str
    reason: str
    name: str

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, successfully or not."""
        return self.state in ENDED


@dataclass(frozen=True)
class SlurmQueue:
    """The queue of one Slurm.

    Parameters
    ----------
    configuration : str
        The path of its ``slurm.conf``.
    """

    configuration: str

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that commands need to use this Slurm."""
        return {"SLURM_CONF": self.configuration}

    def run(self, *command: str) -> str:
        """Run a command of Slurm and return what it prints.

        Raises
        ------
        SlurmError
            If it fails or does not answer; with its output.
        """
        try:
            done = subprocess.run(
                command,
                env=os.environ | self.environment,
                capture_output=True,
                text=True,
                timeout=_COMMAND_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise SlurmError(f"{command[0]}: no answer in {_COMMAND_TIMEOUT_S:g} s") from exc
        if done.returncode:
            output = (done.stderr + done.stdout).strip()
            raise SlurmError(f"{' '.join(command)}: exit code {done.returncode}: {output}")
        return done.stdout

    def jobs(self) -> list[BatchJob]:
        """Return the batch jobs that wait, run, or ended in the last minute."""
        printed = self.run("squeue", "--noheader", "--all", "--states=all", f"-o{_JOB_FORMAT}")
        return [_parse_job(line) for line in printed.splitlines()]

    def active_jobs(self) -> list[BatchJob]:
        """Return the batch jobs that wait, run, or are being ended."""
        return [job for job in self.jobs() if not job.has_ended]

    def job(self, job_id: int) -> BatchJob:
        """Return a batch job.

        Raises
        ------
        SlurmError
            If there is none of that id, or if it ended over a minute ago.
        """
        for job in self.jobs():
            if job.job_id == job_id:
                return job
        raise SlurmError(f"job {job_id}: not in the queue")

    def submit(self, script: str, *options: str) -> int:
        """Submit a line of shell with options of ``sbatch``; return the id of the batch job."""
        printed = self.run("sbatch", "--parsable", *options, f"--wrap={script}")
        return int(printed.split(";")[0])

    def cancel(self, *job_ids: int) -> None:
        """Cancel batch jobs; all active ones if none is named."""
        cancelled = job_ids or tuple(job.job_id for job in self.active_jobs())
        if cancelled:
            self.run("scancel", *map(str, cancelled))

    def nodes(self) -> dict[str, str]:
        """Return the state of each node, as ``idle``, ``mixed``, ``down``, ``down*``.

        A star means that its slurmd does not answer.
        """
        printed = self.run("sinfo", "--noheader", "--Node", "--partition=normal", "-o%N %T")
        return dict(line.split() for line in printed.splitlines())

    def set_down(self, node: str) -> None:
        """Declare a node down, as an operator would; its batch jobs end or are queued again.

        A node whose slurmd is running returns to service by itself at once.
        """
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=declared lost")

    def resume(self, node: str) -> None:
        """Return a drained node to service."""
        self.run("scontrol", "update", f"nodename={node}", "state=resume")

    def release(self, job_id: int) -> None:
        """Let a batch job that was queued again start now, rather than two minutes later.

        Only while the node that it ran on is down: Slurm waits because the order to end the first
        run reaches that node when it returns, and would end the second run there.
        """
        self.run("scontrol", "update", f"jobid={job_id}", "starttime=now")

    def expire(self, job_id: int) -> None:
        """End the walltime of a batch job now; Slurm, which checks every 30 s, then enforces it."""
        self.run("scontrol", "update", f"jobid={job_id}", "endtime=now")

    def wait_for_state(self, job_id: int, *states: str, timeout_s: float = 30.0) -> BatchJob:
        """Wait until a batch job is in one of these states, and return it.

        Raises
        ------
        SlurmError
            If it ends in another state, or does not get there in time.
        """
        expected = " or ".join(states)

        def probe() -> BatchJob | None:
            job = self.job(job_id)
            if job.has_ended and job.state not in states:
                raise SlurmError(f"job {job_id}: {job.state} ({job.reason}), {expected} expected")
            return job if job.state in states else None

        return self.wait_until(probe, f"job {job_id} to be {expected}", timeout_s)

    def wait_until(self, probe: Callable[[], T | None], what: str, timeout_s: float = 30.0) -> T:
        """Wait for a true value of `probe`, and return it.

        Parameters
        ----------
        probe : callable
            Called several times a second.
        what : str
            What is waited for, for the message.
        timeout_s : float
            For how long.

        Raises
        ------
        SlurmError
            If there is none in time; with the state of the queue and the nodes.
        """
        deadline = time.monotonic() + timeout_s
        while not (value := probe()):
            if time.monotonic() > deadline:
                raise SlurmError(f"waited {timeout_s:g} s for {what}; {self._state()}")
            time.sleep(_POLL_S)
        return value

    def _state(self) -> str:
        try:
            return f"nodes: {self.nodes()}; jobs: {self.jobs()}"
        except SlurmError as exc:
            return str(exc)


def _parse_job(line: str) -> BatchJob:
    job_id, *others = line.split("|", 6)
    return BatchJob(int(job_id), *others)
