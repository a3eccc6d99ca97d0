"""Whether a worker that runs a job may go on."""

import time
from dataclasses import dataclass
from typing import Final

import psutil

from batuta.cluster.errors import (
    ClusterError,
    TaskTimeoutError,
    WorkerLostError,
    WorkerMemoryError,
)
from batuta.cluster.pool import Worker
from batuta.cluster.resources import MB

CRITICAL_FREE_SHARE: Final = 0.05
"""Below this share of free memory the machine is in danger."""

DEATH_NOTICE_S: Final = 1.0
"""How long Pebble has to tell that a worker died, before we do."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a worker may take."""

    job_timeout_s: float
    """For each task of a job."""
    ram_mb: float
    max_jobs: int

    def worn(self, jobs: int, ram_bytes: int) -> bool:
        """Whether a worker is to be renewed after this job."""
        return jobs >= self.max_jobs or ram_bytes > self.ram_mb * MB


class Watch:
    """Looks at the workers that run a job."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._gone_since: dict[Worker, float] = {}

    def verdict(self, worker: Worker) -> ClusterError | None:
        """Say why this worker must be killed; None when all is well."""
        return self._overtime(worker) or self._overweight(worker)

    def lost(self, worker: Worker) -> bool:
        """Whether it is gone, and nobody said so in due time."""
        if not worker.gone():
            self._gone_since.pop(worker, None)
            return False
        since = self._gone_since.setdefault(worker, time.monotonic())
        return time.monotonic() - since > DEATH_NOTICE_S

    def forget(self, worker: Worker) -> None:
        """Stop looking at a worker that is gone."""
        self._gone_since.pop(worker, None)

    def _overtime(self, worker: Worker) -> ClusterError | None:
        step, elapsed_s = worker.step()
        if step < 0 or elapsed_s <= self.limits.job_timeout_s:
            return None
        return TaskTimeoutError(
            f"killed: it ran for more than {self.limits.job_timeout_s:g} s (per_job_timeout)"
        )

    def _overweight(self, worker: Worker) -> ClusterError | None:
        ram_mb = worker.ram_bytes() / MB
        if ram_mb <= self.limits.ram_mb:
            return None
        memory = psutil.virtual_memory()
        if memory.available > CRITICAL_FREE_SHARE * memory.total:
            return None
        return WorkerMemoryError(
            f"killed: its worker held {ram_mb:.0f} MB, max_ram_per_worker is"
            f" {self.limits.ram_mb:g} MB, and the machine had {memory.available / MB:.0f} MB left"
        )


def loss(worker: Worker, error: BaseException) -> ClusterError:
    """Say why the job of a lost worker has no result: our reason before Pebble's."""
    if worker.verdict is not None:
        return worker.verdict
    code = getattr(error, "exitcode", None)
    how = (
        "ended"
        if code is None
        else f"was ended by signal {-code}"
        if code < 0
        else f"ended with code {code}"
    )
    return WorkerLostError(f"its worker {how} while it ran")
