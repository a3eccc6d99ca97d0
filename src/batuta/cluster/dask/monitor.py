"""Counting workers from time to time, and replacing those that are missing."""

import asyncio
import contextlib
import logging
from typing import Any, Final, Protocol

from batuta.cluster.contract import WorkerCount
from batuta.cluster.dask.engine.scheduler import DaskScheduler
from batuta.cluster.errors import ClusterError
from batuta.errors import describe_error

LOG: Final = logging.getLogger(__name__)

POLL_S: Final = 0.5
"""How often workers are counted."""
ANSWER_TIMEOUT_S: Final = 60.0
"""How long dask's scheduler may take to answer."""
STOP_TIMEOUT_S: Final = 20.0
"""How long a poll that is under way may take to end."""


class Deployment(Protocol):
    """A dask cluster that was started for this run, or that this run has joined."""

    client: Any
    """A `distributed.Client`."""

    async def reconcile(self, present: int) -> WorkerCount:
        """Replace the workers that are missing; return how many there are of those asked for."""

    def close(self) -> None:
        """Stop all that was started, and leave."""


class DaskMonitor:
    """Counts the workers of a deployment until it is stopped, or until the cluster is lost.

    It runs in dask's event loop, as the engine does.

    Parameters
    ----------
    deployment : Deployment
        Whose workers.
    scheduler : DaskScheduler
        Receives their number, and the error that ends the run when the cluster is lost.
    """

    def __init__(self, deployment: Deployment, scheduler: DaskScheduler) -> None:
        self._deployment = deployment
        self._scheduler = scheduler
        self._loop = deployment.client.loop.asyncio_loop
        self._stopping = asyncio.Event()
        self._ended = asyncio.run_coroutine_threadsafe(self._run(), self._loop)

    def stop(self) -> None:
        """Stop polling.

        A poll that is under way ends first: cancelled in the middle of a submission, it would
        leave a batch job that nobody has the id of.
        """
        self._loop.call_soon_threadsafe(self._stopping.set)
        try:
            self._ended.result(STOP_TIMEOUT_S)
        except TimeoutError:
            self._ended.cancel()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._poll()
            except ClusterError as exc:
                self._scheduler.break_down(exc)
                return
            except OSError as exc:
                # The client notices too, and tries to connect again for a while: only when it has
                # given up is the cluster lost.
                if self._deployment.client.status in {"closed", "closing"}:
                    self._scheduler.break_down(
                        ClusterError(f"lost the connection to dask's scheduler: {exc}")
                    )
                    return
            except Exception as exc:
                LOG.exception("monitoring the workers failed")
                self._scheduler.break_down(
                    ClusterError(f"monitoring the workers failed: {describe_error(exc)}")
                )
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), POLL_S)

    async def _poll(self) -> None:
        threads = await self._worker_threads()
        count = await self._deployment.reconcile(len(threads))
        self._scheduler.on_workers(count, sum(threads.values()))

    async def _worker_threads(self) -> dict[str, int]:
        """Return how many tasks each worker runs at a time, by its address."""
        try:
            answer: dict[str, int] = await asyncio.wait_for(
                self._deployment.client.scheduler.ncores(), ANSWER_TIMEOUT_S
            )
        except TimeoutError:
            raise ClusterError(
                f"dask's scheduler has not answered for {ANSWER_TIMEOUT_S:g} s"
            ) from None
        return answer
