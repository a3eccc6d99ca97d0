"""The commands of batch systems: which batch jobs wait, run, or have ended."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from batuta.cluster.errors import ClusterError
from batuta.commands import run_command
from batuta.errors import one_line

COMMAND_TIMEOUT_S = 60.0
"""How long a command of the batch system may take."""


class BatchJobState(Enum):
    """The state of a batch job."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True)
class BatchJobStatus:
    """The state of a batch job, in our terms and in those of the batch system."""

    state: BatchJobState
    reason: str = ""
    """As the batch system says it."""
    never_starts: bool = False
    """Whether it waits until somebody changes it, or the limits that it is over."""


UNKNOWN: Final = BatchJobStatus(BatchJobState.ENDED, "no longer known to the batch system")
"""Of a batch job that the batch system has forgotten, or does not show."""


class BatchSystemUnreachableError(ClusterError):
    """The batch system did not answer: nothing is known of the batch jobs."""


class BatchSystem(Protocol):
    """The commands of a batch system."""

    cancel_command: tuple[str, ...]
    """The command that cancels the batch jobs whose ids follow it."""

    def cancel_by_name_command(self, name: str) -> tuple[str, ...]:
        """Return the command that cancels this user's batch jobs called `name`; empty if none."""

    async def statuses(self, job_ids: Iterable[str]) -> Mapping[str, BatchJobStatus]:
        """Return the status of batch jobs; those that the batch system has forgotten are left out.

        Raises
        ------
        BatchSystemUnreachableError
            With what the command printed.
        """


_SQUEUE_FORMAT = ("--noheader", "--format=%i|%T|%r")


class Slurm:
    """The commands of Slurm."""

    cancel_command: tuple[str, ...] = ("scancel",)

    def cancel_by_name_command(self, name: str) -> tuple[str, ...]:
        """Return a ``scancel`` that selects by user and name."""
        return ("scancel", f"--user={os.getuid()}", f"--name={name}")

    async def statuses(self, job_ids: Iterable[str]) -> Mapping[str, BatchJobStatus]:
        """Ask ``squeue`` for all batch jobs of this user: it fails when given a forgotten id."""
        code, output, error = await ask_batch_system(
            ("squeue", f"--user={os.getuid()}", "--states=all", *_SQUEUE_FORMAT)
        )
        if code:
            raise BatchSystemUnreachableError(f"squeue: {error}")
        fields = (line.split("|", 2) for line in output.splitlines())
        found = {each[0].strip(): each[1:] for each in fields if len(each) == 3}
        return {job_id: _slurm_status(*found[job_id]) for job_id in job_ids if job_id in found}


_SLURM_WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD"}
_SLURM_NEVER_STARTS = re.compile(
    r"Partition(TimeLimit|NodeLimit|Config)|BadConstraints|Invalid(Account|QOS)"
    r"|(Account|QOS)NotAllowed|(QOS|Assoc)Max\w+PerJob(Limit)?"
)
"""Reasons for which a batch job waits until it is changed, or the limits are."""
_SLURM_RUNNING = {"RUNNING", "CONFIGURING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING"}


def _slurm_status(state: str, reason: str) -> BatchJobStatus:
    if state in _SLURM_WAITING:
        reason = reason.strip()
        never_starts = bool(_SLURM_NEVER_STARTS.fullmatch(reason))
        return BatchJobStatus(BatchJobState.WAITING, reason, never_starts)
    if state in _SLURM_RUNNING:
        return BatchJobStatus(BatchJobState.RUNNING, state)
    return BatchJobStatus(BatchJobState.ENDED, state)


class Pbs:
    """The commands of PBS and Torque."""

    cancel_command: tuple[str, ...] = ("qdel",)

    def cancel_by_name_command(self, name: str) -> tuple[str, ...]:  # noqa: ARG002 - qdel takes no name
        """Return none."""
        return ()

    async def statuses(self, job_ids: Iterable[str]) -> Mapping[str, BatchJobStatus]:
        """Ask ``qstat`` for each; it names those that have ended in its errors."""
        asked = list(job_ids)
        if not asked:
            return {}
        code, output, error = await ask_batch_system(("qstat", *asked))
        if code and not _names_ended_jobs(error):
            raise BatchSystemUnreachableError(f"qstat: {error}")
        found = {}
        for line in output.splitlines():
            # Job id, name, user, time, state and queue; a name cannot contain spaces.
            fields = line.split()
            if len(fields) >= 6 and fields[0][:1].isdigit():
                found[_pbs_number(fields[0])] = fields[-2]
        return {
            job_id: _pbs_status(found[_pbs_number(job_id)])
            for job_id in asked
            if _pbs_number(job_id) in found
        }


def _pbs_number(job_id: str) -> str:
    """Return an id without the name of its server, which qstat may cut short."""
    return job_id.partition(".")[0]


def _names_ended_jobs(error: str) -> bool:
    return any(each in error for each in ("Unknown Job", "has finished", "not found"))


def _pbs_status(letter: str) -> BatchJobStatus:
    if letter in {"Q", "H", "W", "T"}:
        return BatchJobStatus(BatchJobState.WAITING, f"state {letter}")
    if letter in {"C", "F", "X", "M"}:
        return BatchJobStatus(BatchJobState.ENDED, f"state {letter}")
    return BatchJobStatus(BatchJobState.RUNNING, f"state {letter}")


async def ask_batch_system(command: Sequence[str]) -> tuple[int, str, str]:
    """Run a command; return its exit code, its output, and its errors in one line.

    Raises
    ------
    BatchSystemUnreachableError
        If the command cannot be run, or takes too long.
    """
    try:
        code, output, errors = await run_command(command, COMMAND_TIMEOUT_S)
    except TimeoutError:
        raise BatchSystemUnreachableError(
            f"{command[0]}: no answer in {COMMAND_TIMEOUT_S:g} s"
        ) from None
    except OSError as exc:
        raise BatchSystemUnreachableError(f"{command[0]}: {exc.strerror}") from exc
    return code, output, one_line(errors)
