"""The limits of time and memory that a worker may not exceed."""

from dataclasses import dataclass

from batuta.cluster.errors import ClusterError, TaskTimeoutError, WorkerMemoryError
from batuta.cluster.local.heartbeat import IDLE
from batuta.cluster.local.worker_handle import WorkerHandle
from batuta.cluster.resources import MB


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What each worker may use."""

    job_timeout_s: float
    """For each task of a job."""
    ram_mb: float
    max_jobs: int
    """After how many a worker is renewed, once it has worked for `min_life_s`."""
    nb_workers: int
    min_life_s: float = 0.0
    """For how long a worker runs jobs at least: renewing it costs as much as many short ones."""

    def to_be_renewed(self, held_bytes: int) -> bool:
        """Whether a worker that holds this much memory after its job is to be renewed."""
        return held_bytes > self.ram_mb * MB


class LimitChecker:
    """Checks workers that run a job against their limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._late: dict[WorkerHandle, tuple[int, int]] = {}
        """The request and the step for which each worker was over its time at the last check."""

    def check(self, worker: WorkerHandle, *, alone: bool) -> ClusterError | None:
        """Return why this worker must be killed, or None.

        Parameters
        ----------
        worker : WorkerHandle
            One that runs a job.
        alone : bool
            Whether its job runs alone, and may use the memory of all workers.
        """
        return self._check_time(worker) or self._check_memory(worker, alone=alone)

    def _check_time(self, worker: WorkerHandle) -> ClusterError | None:
        """Report a step that is over its time at two checks in a row.

        One check is not enough. The step and its start are read one after the other, without a
        lock, and the worker may begin another step in between, or end this one before it is
        killed.
        """
        state = worker.heartbeat_state()
        if state.step == IDLE or state.for_s <= self.limits.job_timeout_s:
            self._late.pop(worker, None)
            return None
        if self._late.get(worker) != (state.number, state.step):
            self._late[worker] = (state.number, state.step)
            return None
        del self._late[worker]
        return TaskTimeoutError(
            f"killed: it ran for more than {self.limits.job_timeout_s:g} s (per_job_timeout)"
        )

    def _check_memory(self, worker: WorkerHandle, *, alone: bool) -> ClusterError | None:
        held_bytes = worker.read_held_bytes()
        worker.peak_bytes = max(worker.peak_bytes, held_bytes)
        allowed_mb = self.limits.ram_mb * (self.limits.nb_workers if alone else 1)
        if held_bytes <= allowed_mb * MB:
            return None
        where = f"alone on {self.limits.nb_workers} x" if alone else "over"
        return WorkerMemoryError(
            f"killed: its worker held {held_bytes / MB:.0f} MB,"
            f" {where} {self.limits.ram_mb:g} MB (max_ram_per_worker)"
        )
