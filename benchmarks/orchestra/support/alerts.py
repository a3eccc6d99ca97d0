"""Alerts, one after the other: how long each takes to its request, on its own or meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from nats.aio.client import Client

from benchmarks.orchestra.decision import IDLE_S, quantiles_ms
from benchmarks.orchestra.support.backlog import classed
from benchmarks.orchestra.support.maker import Arrivals
from benchmarks.support.figures import Figure


class Alerts:
    """Announces an alert, waits for its request, and pauses, as long as it is asked to.

    `product` is what alerts announce.
    """

    def __init__(self, client: Client, arrivals: Arrivals, product: str = "L0") -> None:
        self._client = client
        self._arrivals = arrivals
        self._product = product
        self._number = 0

    async def measure(self, count: int) -> list[float]:
        """Return how long so many alerts take, in seconds."""
        return [await self._one() for _ in range(count)]

    @asynccontextmanager
    async def meanwhile(self) -> AsyncIterator[list[float]]:
        """Announce alerts until the block ends; yield the list to which their times are added."""
        times: list[float] = []

        async def repeat() -> None:
            while True:
                times.append(await self._one())

        task = asyncio.create_task(repeat())
        try:
            yield times
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _one(self) -> float:
        await asyncio.sleep(IDLE_S)
        self._number += 1
        obs_id = f"alert-{self._number}"
        began = time.perf_counter()
        await self._client.publish("data.vhf", classed(obs_id, "alert", self._product))
        return await self._arrivals.wait_for(obs_id, timeout_s=120) - began


WARM_UP: Final = 20


def alert_figure(what: str, times_s: list[float], before_s: list[float]) -> Figure:
    """Return the line that compares the alerts during an operation with those before it."""
    (median, high), (base, base_high) = quantiles_ms(times_s), quantiles_ms(before_s)
    return Figure(
        what=f"an alert {what}: median",
        measured=f"{median:.1f} ms, 99 % {high:.0f} ms, longest {1000 * max(times_s):.0f} ms",
        against=f"before it: {base:.1f} ms, 99 % {base_high:.0f} ms",
        ratio=median / base,
    )
