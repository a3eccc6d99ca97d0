"""Whether a worker that runs a job may go on."""

from dataclasses import dataclass

from batuta.cluster.errors import (
    ClusterError,
    TaskTimeoutError,
    WorkerMemoryError,
)
from batuta.cluster.local.heartbeat import RESTING
from batuta.cluster.local.worker_handle import Worker
from batuta.cluster.resources import MB


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a worker may take."""

    job_timeout_s: float
    """For each task of a job."""
    ram_mb: float
    max_jobs: int
    nb_workers: int

    def bloated(self, ram_bytes: int) -> bool:
        """Whether a worker that holds this much after its job is to be renewed."""
        return ram_bytes > self.ram_mb * MB


class Watch:
    """Looks at the workers that run a job."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._late: dict[Worker, tuple[int, int]] = {}
        """The order and the step that each worker was late with at the last look."""

    def verdict(self, worker: Worker, *, alone: bool) -> ClusterError | None:
        """Say why this worker must be killed; None when all is well.

        Parameters
        ----------
        worker : Worker
            One that runs a job.
        alone : bool
            Whether it has the memory of all the others too.
        """
        return self._overtime(worker) or self._overweight(worker, alone=alone)

    def _overtime(self, worker: Worker) -> ClusterError | None:
        """Condemn a task that is over its time at two looks: what is told changes meanwhile."""
        doing = worker.doing()
        if doing.step == RESTING or doing.for_s <= self.limits.job_timeout_s:
            self._late.pop(worker, None)
            return None
        if self._late.get(worker) != (doing.number, doing.step):
            self._late[worker] = (doing.number, doing.step)
            return None
        del self._late[worker]
        return TaskTimeoutError(
            f"killed: it ran for more than {self.limits.job_timeout_s:g} s (per_job_timeout)"
        )

    def _overweight(self, worker: Worker, *, alone: bool) -> ClusterError | None:
        ram_bytes = worker.ram_bytes()
        worker.peak_ram_bytes = max(worker.peak_ram_bytes, ram_bytes)
        allowed_mb = self.limits.ram_mb * (self.limits.nb_workers if alone else 1)
        if ram_bytes <= allowed_mb * MB:
            return None
        where = f"alone on {self.limits.nb_workers} x" if alone else "over"
        return WorkerMemoryError(
            f"killed: its worker held {ram_bytes / MB:.0f} MB,"
            f" {where} {self.limits.ram_mb:g} MB (max_ram_per_worker)"
        )
