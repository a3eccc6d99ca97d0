"""What a batch system says of jobs: those that wait, those that run, those that are over."""

import asyncio
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from batuta.cluster.errors import ClusterError

COMMAND_S = 60.0
"""How long a command of the batch system may take."""


class JobState(Enum):
    """What becomes of a job."""

    WAITING = "waiting"
    RUNNING = "running"
    OVER = "over"


@dataclass(frozen=True)
class JobStatus:
    """Where a job is, in our words and in those of the batch system."""

    state: JobState
    words: str = ""
    for_ever: bool = False
    """Whether it waits for what does not come by itself."""


UNKNOWN: Final = JobStatus(JobState.OVER, "it is not known any more")
"""A job that the batch system has forgotten, or does not show."""


class QueueUnreachableError(ClusterError):
    """The batch system did not answer: nothing is known of the jobs."""


class BatchSystem(Protocol):
    """What is asked of a batch system."""

    cancel: tuple[str, ...]
    """The command that cancels the jobs named after it."""

    def cancel_named(self, name: str) -> tuple[str, ...]:
        """Return the command that cancels this user's jobs of a name; empty if there is none."""

    async def statuses(self, jobs: Iterable[str]) -> Mapping[str, JobStatus]:
        """Tell where jobs are; those that it has forgotten are left out.

        Raises
        ------
        QueueUnreachableError
            With what the command said.
        """


_SQUEUE_FORMAT = ("--noheader", "--format=%i|%T|%r")


class Slurm:
    """Slurm's commands."""

    cancel: tuple[str, ...] = ("scancel",)

    def cancel_named(self, name: str) -> tuple[str, ...]:
        """Name the jobs to scancel."""
        return ("scancel", f"--user={os.getuid()}", f"--name={name}")

    async def statuses(self, jobs: Iterable[str]) -> Mapping[str, JobStatus]:
        """Ask squeue for all the jobs of this user: it fails on those that it has forgotten."""
        code, said, error = await run_command(
            ("squeue", f"--user={os.getuid()}", "--states=all", *_SQUEUE_FORMAT)
        )
        if code:
            raise QueueUnreachableError(f"squeue: {error}")
        found = {line.split("|")[0].strip(): line.split("|")[1:] for line in said.splitlines()}
        return {job: _slurm_status(*found[job]) for job in jobs if job in found}


_SLURM_WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD"}
_SLURM_NEVER = re.compile(
    r"Partition(TimeLimit|NodeLimit|Config)|BadConstraints|Invalid(Account|QOS)"
    r"|(Account|QOS)NotAllowed|(QOS|Assoc)Max\w+PerJob(Limit)?"
)
"""Why a job waits until it is changed, or the limits are."""
_SLURM_ALIVE = {"RUNNING", "CONFIGURING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING"}


def _slurm_status(state: str, reason: str) -> JobStatus:
    if state in _SLURM_WAITING:
        reason = reason.strip()
        return JobStatus(JobState.WAITING, reason, bool(_SLURM_NEVER.fullmatch(reason)))
    if state in _SLURM_ALIVE:
        return JobStatus(JobState.RUNNING, state)
    return JobStatus(JobState.OVER, state)


class Pbs:
    """The commands of PBS and Torque."""

    cancel: tuple[str, ...] = ("qdel",)

    def cancel_named(self, name: str) -> tuple[str, ...]:  # noqa: ARG002 - qdel takes no name
        """Return none."""
        return ()

    async def statuses(self, jobs: Iterable[str]) -> Mapping[str, JobStatus]:
        """Ask qstat for each; it names those that are over in its errors."""
        wanted = list(jobs)
        if not wanted:
            return {}
        code, said, error = await run_command(("qstat", *wanted))
        if code and not _names_ended_jobs(error):
            raise QueueUnreachableError(f"qstat: {error}")
        found = {}
        for line in said.splitlines():
            # Job id, name, user, time, state and queue; a name may not hold spaces.
            fields = line.split()
            if len(fields) >= 6 and fields[0][:1].isdigit():
                found[fields[0].partition(".")[0]] = fields[-2]
        return {
            job: _pbs_status(found[job.partition(".")[0]])
            for job in wanted
            if job.partition(".")[0] in found
        }


def _names_ended_jobs(error: str) -> bool:
    return any(each in error for each in ("Unknown Job", "has finished", "not found"))


def _pbs_status(letter: str) -> JobStatus:
    if letter in {"Q", "H", "W", "T"}:
        return JobStatus(JobState.WAITING, f"state {letter}")
    if letter in {"C", "F", "X", "M"}:
        return JobStatus(JobState.OVER, f"state {letter}")
    return JobStatus(JobState.RUNNING, f"state {letter}")


async def run_command(command: Sequence[str]) -> tuple[int, str, str]:
    """Run a command; return its exit code, and what it wrote on its two outputs.

    Raises
    ------
    QueueUnreachableError
        If it is not there, or takes too long.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except OSError as exc:
        raise QueueUnreachableError(f"{command[0]}: {exc.strerror}") from exc
    try:
        said, error_said = await asyncio.wait_for(process.communicate(), COMMAND_S)
    except TimeoutError:
        process.kill()
        await process.communicate()
        raise QueueUnreachableError(f"{command[0]}: no answer in {COMMAND_S:g} s") from None
    return process.returncode or 0, said.decode(), " ".join(error_said.decode().split())
