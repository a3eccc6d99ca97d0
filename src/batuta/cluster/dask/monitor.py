"""Counting the workers from time to time, and having those that are missing seen to."""

import asyncio
import contextlib
import logging
from typing import Any, Final, Protocol

from batuta.cluster.contract import WorkerCount
from batuta.cluster.dask.engine.scheduler import Director
from batuta.cluster.errors import ClusterError
from batuta.errors import describe_error

LOG: Final = logging.getLogger(__name__)

LOOK_S: Final = 0.5
"""How often the workers are counted."""
ANSWER_S: Final = 60.0
"""How long the scheduler of dask may take to answer."""
LAST_LOOK_S: Final = 20.0
"""How long a look that is under way may take to end."""


class Deployment(Protocol):
    """A dask cluster that runs for us, or that we were let in."""

    client: Any
    """A `distributed.Client`."""

    async def look(self, present: int) -> WorkerCount:
        """Tell how many workers there are of those asked; see to those that are not."""

    def close(self) -> None:
        """End all that was started, and leave."""


class Looking:
    """Looks after the workers of a deployment until it is stopped, or until they are lost.

    Parameters
    ----------
    deployment : Deployment
        Whose workers.
    director : Director
        Told how many there are, and that all is lost.
    """

    def __init__(self, deployment: Deployment, director: Director) -> None:
        self._deployment = deployment
        self._director = director
        self._loop = deployment.client.loop.asyncio_loop
        self._stopped = asyncio.Event()
        self._ended = asyncio.run_coroutine_threadsafe(self._keep_looking(), self._loop)

    def stop(self) -> None:
        """Look no more.

        A look that is under way ends first: jobs that it submits are not forgotten.
        """
        self._loop.call_soon_threadsafe(self._stopped.set)
        try:
            self._ended.result(LAST_LOOK_S)
        except TimeoutError:
            self._ended.cancel()

    async def _keep_looking(self) -> None:
        while not self._stopped.is_set():
            try:
                await self._look()
            except ClusterError as exc:
                self._director.break_down(exc)
                return
            except OSError as exc:
                # The client hears of it too, and tries again for a while before it gives up.
                if self._deployment.client.status in {"closed", "closing"}:
                    self._director.break_down(
                        ClusterError(f"the connection to the scheduler of dask is lost: {exc}")
                    )
                    return
            except Exception as exc:
                LOG.exception("looking after the workers failed")
                self._director.break_down(
                    ClusterError(f"looking after the workers failed: {describe_error(exc)}")
                )
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), LOOK_S)

    async def _look(self) -> None:
        threads = await self._threads()
        there = await self._deployment.look(len(threads))
        self._director.on_workers(there, sum(threads.values()))

    async def _threads(self) -> dict[str, int]:
        """Return how many tasks each worker runs at a time, by its address."""
        try:
            answer: dict[str, int] = await asyncio.wait_for(
                self._deployment.client.scheduler.ncores(), ANSWER_S
            )
        except TimeoutError:
            raise ClusterError(
                f"the scheduler of dask has not answered for {ANSWER_S:g} s"
            ) from None
        return answer
