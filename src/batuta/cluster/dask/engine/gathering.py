"""Fetching results to the main process, as many as it has room for.

A result that only the main process needs is fetched before its job counts as done, and its worker
then frees it: large tiles are held in one place, and do not pass through dask's scheduler.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, Final, TypeAlias

from batuta.cluster.dask.engine.submission import RemoteResult, SubmittedJob
from batuta.cluster.errors import ClusterError
from batuta.cluster.execution_state import ExecutionState
from batuta.cluster.remote_error import failed_task

MAX_LOCAL_BYTES: Final = 256 << 20
"""About what results may hold in this process while they wait to be read; others wait in their
workers."""
MIN_LOCAL_RESULTS: Final = 2
"""Results that may wait here whatever they hold."""
MAX_REQUESTS: Final = 2
"""Requests for results at a time; those computed meanwhile go together in the next request."""


JobResults: TypeAlias = tuple[SubmittedJob, list[RemoteResult | None]]
"""A job that is computed, and its outputs; None for those that nobody needs."""


class ResultGatherer:
    """Fetches the results of jobs, then records the jobs as done.

    All of its methods run in dask's event loop, so that its state changes only where it awaits.
    After each await everything may have failed, or the cluster may be closed: what was requested
    is then no longer recorded.

    Parameters
    ----------
    client : Client
        Of the cluster.
    state : ExecutionState
        Where jobs are recorded as done.
    on_lost : callable
        Called with a job whose result is lost for good, and the future that says why.
    on_recorded : callable
        Called when jobs have been recorded: others may be ready.
    guard : callable
        Returns the context in which whatever fails ends the computation.
    """

    def __init__(
        self,
        client: Any,
        state: ExecutionState,
        *,
        on_lost: Callable[[SubmittedJob, Any], Awaitable[None]],
        on_recorded: Callable[[], None],
        guard: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._client = client
        self._state = state
        self._on_lost = on_lost
        self._on_recorded = on_recorded
        self._guard = guard
        self._closed = False
        self._waiting: list[JobResults] = []
        """Jobs whose results are to be fetched once there is room."""
        self._fetching = 0
        """Jobs whose results are being fetched."""
        self._requests: set[asyncio.Task[None]] = set()
        self._average_bytes = 1.0
        """Of a result."""

    @property
    def count(self) -> int:
        """Jobs whose results are being fetched, or wait to be."""
        return self._fetching + len(self._waiting)

    def add(self, results: list[JobResults]) -> None:
        """Fetch results as soon as there is room for them."""
        self._waiting += results
        self.fetch_next()

    def fetch_next(self) -> None:
        """Request the results that there is room for, together: a request costs as much as several.

        A few requests at a time are enough to keep the network busy, and leave more results to the
        next one.
        """
        if not self._waiting or len(self._requests) >= MAX_REQUESTS or self._state.idle:
            return
        capacity = max(MIN_LOCAL_RESULTS, int(MAX_LOCAL_BYTES / self._average_bytes))
        room = capacity - self._fetching - self._state.current.undelivered
        if room > 0:
            requested, self._waiting = self._waiting[:room], self._waiting[room:]
            self._start_request(requested)

    def clear(self) -> None:
        """Forget the results that wait to be fetched."""
        self._waiting.clear()

    def close(self) -> None:
        """Cancel all requests."""
        self._closed = True
        for request in self._requests:
            request.cancel()

    def _start_request(self, requested: list[JobResults]) -> None:
        self._fetching += len(requested)
        request = asyncio.ensure_future(self._fetch(requested))
        self._requests.add(request)  # the event loop itself holds tasks weakly
        request.add_done_callback(self._on_request_done)

    def _on_request_done(self, request: "asyncio.Task[None]") -> None:
        self._requests.discard(request)
        if not self._closed:
            self.fetch_next()

    async def _fetch(self, requested: list[JobResults]) -> None:
        """Fetch results from the workers that hold them, then record their jobs as done.

        Results lost on the way are computed again by dask, if it can.
        """
        futures = [each.future for _, outputs in requested for each in outputs if each is not None]
        with self._guard():
            try:
                values = iter(await self._client.gather(futures))
            except Exception:  # noqa: BLE001 - one of them is lost for good: each says so itself
                self._fetching -= len(requested)
                await self._fetch_one_by_one(requested)
            else:
                self._fetching -= len(requested)
                for submitted, outputs in self._if_intact(requested):
                    for each in outputs:
                        if each is not None:
                            each.fetched = next(values)
                            self._record_size(each.fetched.nbytes)
                    self._state.complete(submitted.job, outputs)
            self._on_recorded()

    async def _fetch_one_by_one(self, requested: list[JobResults]) -> None:
        """Report the jobs whose results are lost, and request the others again, each alone."""
        remaining: list[JobResults] = []
        for submitted, outputs in self._if_intact(requested):
            statuses = [each.status for each in submitted.futures]
            lost = [each for each in submitted.futures if each.status not in _USABLE]
            if lost:
                await self._on_lost(submitted, lost[0])
            elif len(requested) > 1 or "pending" in statuses:
                remaining.append((submitted, outputs))
            else:  # it was requested alone, is computed, and still cannot be read
                exc = ClusterError("its result cannot be fetched from the worker that holds it")
                self._state.fail(submitted.job, failed_task(submitted.job.last.name, str(exc), exc))
        for each in remaining:
            self._start_request([each])

    def _record_size(self, nbytes: int) -> None:
        """Follow the size of results: at once where it grows, slowly where it shrinks."""
        self._average_bytes = max(float(nbytes), 0.9 * self._average_bytes + 0.1 * nbytes)

    def _if_intact(self, requested: list[JobResults]) -> list[JobResults]:
        """Return what was requested, or nothing if everything has failed meanwhile."""
        return requested if self._state.broken is None else []


_USABLE: Final = frozenset({"finished", "pending"})
"""Statuses of the futures of results that are there, or that dask computes again."""
