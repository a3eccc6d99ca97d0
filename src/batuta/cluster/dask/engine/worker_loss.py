"""Workers that are lost, and what follows for the jobs that they ran."""

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
"""Workers that may die while running the same job before it fails."""
MAX_MEMORY_DEATHS: Final = 2
"""The same, for workers that exceeded their memory limit."""
MAX_DEPARTURES: Final = 10
"""The same, for workers that leave at the end of their time, which is seldom the job's fault."""
MAX_CANCELLATIONS: Final = 3
"""How often dask may cancel a job whose inputs it lost before the job fails."""
_MAX_NAMED: Final = 3


class Decision(Enum):
    """What follows for a job whose worker was lost."""

    RETRY = "retry"
    """It runs again with the others."""
    RETRY_ALONE = "retry alone"
    """It runs again while nothing else does: if its worker dies then, the job is the cause."""
    FAIL = "fail"


@dataclass(frozen=True)
class WorkerLoss:
    """A worker that is gone."""

    address: str
    held_bytes: float | None
    """The memory that it held, where it was killed for that."""
    explained: bool = False
    """Whether a job that was given up may have ended it: none of those that it had is blamed."""


class WorkerLossTracker:
    """Counts the workers lost by each job of a computation, and decides whether to retry it.

    Parameters
    ----------
    ram_mb : float or None
        The memory limit of workers, for messages.
    """

    def __init__(self, ram_mb: float | None) -> None:
        self._ram_mb = ram_mb
        self._over_memory: dict[str, float] = {}
        """What workers held that are being killed for it, by their address."""
        self._leftovers = 0
        """Jobs that were given up when dask had already moved them to another worker. It may start
        them before it hears that they are released, and die of them as the first one did."""
        self._deaths: Counter[Job] = Counter()
        self._departures: Counter[Job] = Counter()
        self._cancellations: Counter[Job] = Counter()

    def reset(self) -> None:
        """Forget the jobs of the previous computation."""
        self._leftovers = 0
        self._deaths.clear()
        self._departures.clear()
        self._cancellations.clear()

    def on_memory(self, address: str, held_bytes: float) -> None:
        """Record that a worker exceeded its memory limit, and is being killed for that."""
        self._over_memory[address] = held_bytes

    def on_given_up(self) -> None:
        """Record that a job was taken from dask, which had moved it from a lost worker to another.

        Each explains one later loss at most: a job that is to blame is tried once more for it.
        """
        self._leftovers += 1

    def on_lost(self, address: str, *, expected: bool) -> WorkerLoss:
        """Return what is known of a worker that is gone."""
        explained = not expected and self._leftovers > 0
        self._leftovers -= explained
        return WorkerLoss(address, self._over_memory.pop(address, None), explained)

    def describe(self, loss: WorkerLoss, jobs: Sequence[Job], *, expected: bool) -> str:
        """Return one line that says what is lost and which jobs run again."""
        verb = "left" if expected else "was lost"
        why = "" if loss.held_bytes is None else f": {self._memory_excess(loss.held_bytes)}"
        names = ", ".join(map(job_name, jobs[:_MAX_NAMED]))
        more = f" and {len(jobs) - _MAX_NAMED} more" if len(jobs) > _MAX_NAMED else ""
        again = f"; running again: {names}{more}" if jobs else ""
        return f"worker {loss.address} {verb}{why}{again}"

    def decide(
        self, job: Job, loss: WorkerLoss, *, expected: bool
    ) -> tuple[Decision, ClusterError]:
        """Decide what follows for the job that a worker was running when it was lost."""
        if expected:
            self._departures[job] += 1
            departures = self._departures[job]
            decision = Decision.FAIL if departures >= MAX_DEPARTURES else Decision.RETRY
            return decision, WorkerLostError(
                f"workers left {departures} times before it was done: it may take longer than"
                " their walltime"
            )
        if loss.explained:
            return Decision.RETRY, WorkerLostError(
                f"worker {loss.address} died, perhaps of a job that was given up"
            )
        self._deaths[job] += 1
        deaths = self._deaths[job]
        if loss.held_bytes is not None:
            exc: ClusterError = WorkerMemoryError(f"killed: {self._memory_excess(loss.held_bytes)}")
            return _decide(job, deaths, MAX_MEMORY_DEATHS), exc
        return _decide(job, deaths, MAX_DEATHS), _lost_error(deaths, loss.address)

    @staticmethod
    def decide_killed(job: Job, exc: KilledWorker) -> tuple[Decision, ClusterError]:
        """Decide for a job that dask gave up, because of the workers that died while having it."""
        deaths, address = exc.allowed_failures + 1, exc.last_worker.address
        return _decide(job, deaths, deaths), _lost_error(deaths, address)

    def decide_cancelled(self, job: Job) -> tuple[Decision, ClusterError]:
        """Decide for a job that dask cancelled, because its inputs are gone."""
        self._cancellations[job] += 1
        again = self._cancellations[job] < MAX_CANCELLATIONS
        return Decision.RETRY if again else Decision.FAIL, ClusterError(
            "dask cancelled it: its inputs were lost with their workers"
        )

    def _memory_excess(self, held_bytes: float) -> str:
        limit = "" if self._ram_mb is None else f" of {self._ram_mb:g} MB (max_ram_per_worker)"
        return f"its worker held {held_bytes / MB:.0f} MB{limit}"


def _decide(job: Job, deaths: int, max_deaths: int) -> Decision:
    """Retry a job alone before it fails: workers may have died of another job that they had."""
    if deaths >= max_deaths and job.alone:
        return Decision.FAIL
    if deaths >= max_deaths - 1 and not job.alone:
        return Decision.RETRY_ALONE
    return Decision.RETRY


def _lost_error(deaths: int, address: str) -> WorkerLostError:
    return WorkerLostError(f"{deaths} workers died while running it, the last one {address}")


def job_name(job: Job) -> str:
    """Return what messages call a job: its tile, if it has one."""
    return f"task {job.last.name}" if job.tile is None else str(job.tile)
