"""Asking a Slurm for what it does, through its own commands."""

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from tools.slurm.errors import SlurmError

T = TypeVar("T")

_POLL_S: Final = 0.1
_COMMAND_S: Final = 30.0
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
"""The states that a job does not leave."""


@dataclass(frozen=True)
class Job:
    """A job as ``squeue`` shows it.

    Parameters
    ----------
    job_id : int
        Its number.
    state : str
        As ``PENDING``, ``RUNNING``, ``COMPLETED``.
    partition : str
        Where it was submitted.
    account : str
        As it was given; ``(null)`` if none was.
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
    def is_over(self) -> bool:
        """Whether it has ended, well or not."""
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
        """What commands need in their environment to speak with this Slurm."""
        return {"SLURM_CONF": self.configuration}

    def run(self, *command: str) -> str:
        """Run a command of Slurm and return what it prints.

        Raises
        ------
        SlurmError
            If it fails or does not answer; with what it said.
        """
        try:
            done = subprocess.run(
                command,
                env=os.environ | self.environment,
                capture_output=True,
                text=True,
                timeout=_COMMAND_S,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise SlurmError(f"{command[0]}: no answer in {_COMMAND_S:g} s") from exc
        if done.returncode:
            said = (done.stderr + done.stdout).strip()
            raise SlurmError(f"{' '.join(command)}: exit code {done.returncode}: {said}")
        return done.stdout

    def jobs(self) -> list[Job]:
        """List the jobs that wait, run, or ended in the last minute."""
        printed = self.run("squeue", "--noheader", "--all", "--states=all", f"-o{_JOB_FORMAT}")
        return [_parsed(line) for line in printed.splitlines()]

    def active_jobs(self) -> list[Job]:
        """List the jobs that wait, run, or are being ended."""
        return [job for job in self.jobs() if not job.is_over]

    def job(self, job_id: int) -> Job:
        """Give one job.

        Raises
        ------
        SlurmError
            If there is no such job, or if it ended over a minute ago.
        """
        for job in self.jobs():
            if job.job_id == job_id:
                return job
        raise SlurmError(f"job {job_id}: not in the queue")

    def submit(self, script: str, *options: str) -> int:
        """Submit a line of shell with options of ``sbatch``; give the number of the job."""
        printed = self.run("sbatch", "--parsable", *options, f"--wrap={script}")
        return int(printed.split(";")[0])

    def cancel(self, *job_ids: int) -> None:
        """Cancel these jobs; all that are active if none is named."""
        numbers = job_ids or tuple(job.job_id for job in self.active_jobs())
        if numbers:
            self.run("scancel", *map(str, numbers))

    def nodes(self) -> dict[str, str]:
        """Give the state of each node: as ``idle``, ``mixed``, ``down``, ``down*``.

        A star says that its slurmd does not answer.
        """
        printed = self.run("sinfo", "--noheader", "--Node", "--partition=normal", "-o%N %T")
        return dict(line.split() for line in printed.splitlines())

    def set_down(self, node: str) -> None:
        """Declare a node lost, as an operator would; its jobs end or are queued again.

        A node whose slurmd lives comes back by itself at once.
        """
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=declared lost")

    def resume(self, node: str) -> None:
        """Take a node that is drained back into service."""
        self.run("scontrol", "update", f"nodename={node}", "state=resume")

    def release(self, job_id: int) -> None:
        """Let a job that was queued again start now, not two minutes later as Slurm has it.

        Do so while the node that it lost is still away: Slurm waits because the order to end the
        job's first run reaches that node when it comes back, and would end the second.
        """
        self.run("scontrol", "update", f"jobid={job_id}", "starttime=now")

    def expire(self, job_id: int) -> None:
        """End the walltime of a job now; Slurm, which looks every 30 s, then enforces it."""
        self.run("scontrol", "update", f"jobid={job_id}", "endtime=now")

    def wait_for_state(self, job_id: int, *states: str, timeout_s: float = 30.0) -> Job:
        """Wait until a job is in one of these states, and give it.

        Raises
        ------
        SlurmError
            If it ends in another state, or if it does not come in time.
        """
        expected = " or ".join(states)

        def probe() -> Job | None:
            job = self.job(job_id)
            if job.is_over and job.state not in states:
                raise SlurmError(f"job {job_id}: {job.state} ({job.reason}), {expected} expected")
            return job if job.state in states else None

        return self.wait_until(probe, f"job {job_id} to be {expected}", timeout_s)

    def wait_until(self, probe: Callable[[], T | None], what: str, timeout_s: float = 30.0) -> T:
        """Wait for a true value of `probe` and give it.

        Parameters
        ----------
        probe : callable
            What is asked, several times a second.
        what : str
            What is waited for, for the message.
        timeout_s : float
            For how long.

        Raises
        ------
        SlurmError
            If it does not come; with the queue and the nodes as they are.
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


def _parsed(line: str) -> Job:
    job_id, *others = line.split("|", 6)
    return Job(int(job_id), *others)
