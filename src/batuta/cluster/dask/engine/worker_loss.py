"""Workers that are lost, and what that says of the jobs that they ran."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from distributed.scheduler import KilledWorker

from batuta.cluster.errors import ClusterError, WorkerLostError, WorkerMemoryError
from batuta.cluster.graph import Job
from batuta.cluster.resources import MB

MAX_DEATHS: Final = 3
"""Workers that may end while they run the same job, before it fails."""
MAX_DEATHS_BY_MEMORY: Final = 2
"""The same, for workers that outgrew their memory."""
MAX_DEPARTURES: Final = 10
"""The same, for workers that leave because their time is over: a tile may be unlucky often."""
MAX_CANCELS: Final = 3
"""How often dask may give a job up, for what it lost, before the job fails."""
_MAX_NAMED: Final = 3


class Verdict(Enum):
    """What becomes of a job whose worker ended."""

    AGAIN = "again"
    """It runs again with the others."""
    ALONE = "alone"
    """It runs again when nothing else does: if its worker ends then, it is its own doing."""
    FAILED = "failed"


@dataclass(frozen=True)
class Loss:
    """A worker that is gone."""

    address: str
    held_bytes: float | None
    """What it held, where it was ended for that."""


class Losses:
    """Counts the losses of a run.

    Parameters
    ----------
    ram_mb : float or None
        What a worker may hold, for messages.
    """

    def __init__(self, ram_mb: float | None) -> None:
        self._ram_mb = ram_mb
        self._outgrown: dict[str, float] = {}
        self._deaths: Counter[Job] = Counter()
        self._departures: Counter[Job] = Counter()
        self._cancels: Counter[Job] = Counter()

    def begin(self) -> None:
        """Forget the jobs of the run before."""
        self._deaths.clear()
        self._departures.clear()
        self._cancels.clear()

    def on_memory(self, address: str, held_bytes: float) -> None:
        """Record that a worker outgrew its memory, and is being ended for that."""
        self._outgrown[address] = held_bytes

    def of_worker(self, address: str) -> Loss:
        """Tell what is known of a worker that is gone."""
        return Loss(address, self._outgrown.pop(address, None))

    def told(self, loss: Loss, jobs: Sequence[Job], *, expected: bool) -> str:
        """Say in one line what is lost and what runs again."""
        verb = "has left" if expected else "is lost"
        why = "" if loss.held_bytes is None else f": {self._too_much(loss.held_bytes)}"
        names = ", ".join(map(what, jobs[:_MAX_NAMED]))
        more = f" and {len(jobs) - _MAX_NAMED} more" if len(jobs) > _MAX_NAMED else ""
        again = f"; run again: {names}{more}" if jobs else ""
        return f"a worker {verb} ({loss.address}{why}){again}"

    def judge(self, job: Job, loss: Loss, *, expected: bool) -> tuple[Verdict, ClusterError]:
        """Judge the job that a worker ran when it ended."""
        if expected:
            self._departures[job] += 1
            too_many = self._departures[job] >= MAX_DEPARTURES
            return Verdict.FAILED if too_many else Verdict.AGAIN, WorkerLostError(
                f"workers had to leave {self._departures[job]} times before it was done:"
                " it may take longer than their walltime"
            )
        self._deaths[job] += 1
        deaths = self._deaths[job]
        if loss.held_bytes is not None:
            error: ClusterError = WorkerMemoryError(f"killed: {self._too_much(loss.held_bytes)}")
            return _verdict(job, deaths, MAX_DEATHS_BY_MEMORY), error
        return _verdict(job, deaths, MAX_DEATHS), _deaths_over_it(deaths, loss.address)

    @staticmethod
    def judge_killed(job: Job, error: KilledWorker) -> tuple[Verdict, ClusterError]:
        """Judge a job that dask gave up, for the workers that ended while they had it."""
        deaths, address = error.allowed_failures + 1, error.last_worker.address
        return _verdict(job, deaths, deaths), _deaths_over_it(deaths, address)

    def judge_cancelled(self, job: Job) -> tuple[Verdict, ClusterError]:
        """Judge a job that dask gave up, for what it needs is gone."""
        self._cancels[job] += 1
        verdict = Verdict.AGAIN if self._cancels[job] < MAX_CANCELS else Verdict.FAILED
        return verdict, ClusterError("dask gave it up: what it needs was lost with the workers")

    def _too_much(self, held_bytes: float) -> str:
        limit = "" if self._ram_mb is None else f" of {self._ram_mb:g} MB (max_ram_per_worker)"
        return f"its worker held {held_bytes / MB:.0f} MB{limit}"


def _verdict(job: Job, deaths: int, allowed: int) -> Verdict:
    if deaths >= allowed and job.alone:
        return Verdict.FAILED
    return Verdict.ALONE if deaths >= allowed - 1 and not job.alone else Verdict.AGAIN


def _deaths_over_it(deaths: int, address: str) -> WorkerLostError:
    return WorkerLostError(f"{deaths} workers ended while they ran it, the last one {address}")


def what(job: Job) -> str:
    """Name a job: by its tile, if it has one."""
    return f"task {job.last.name}" if job.tile is None else str(job.tile)
