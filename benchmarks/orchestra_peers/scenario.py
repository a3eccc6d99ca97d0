"""What is measured on each system, told of observations by the same program."""

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.orchestra_peers.ledger import Ledger, reading
from benchmarks.orchestra_peers.step import LEVELS
from benchmarks.orchestra_peers.systems.contract import Place, Started, System

WARM_UP: Final = 20
IDLE_S: Final = 0.02
FINISH_S: Final = 120.0
GRACE_S: Final = 3.0
"""How long after the last arrival a product may still begin, or be made, at a held rate."""
HELD_S: Final = 1.0
"""At a held rate, 99 % begin within this time."""
AT_ONCE: Final = 64
"""Announcements that wait to be acknowledged."""


@dataclass(frozen=True)
class Rate:
    """What became of observations that arrived at a steady rate.

    Parameters
    ----------
    begun_a_second : float
        How many were begun while they arrived, a second.
    p99_s : float
        From arrival to begin. Those that had not begun count with the time that they had waited
        by the end: then it is at least this.
    held : bool
        Whether 99 % began within `HELD_S`, and all levels of all were made soon after.
    """

    begun_a_second: float
    p99_s: float
    held: bool


class Session:
    """A system that runs, and the ledger of its steps."""

    _numbers = itertools.count()

    def __init__(self, started: Started, ledger: Ledger, *, archive: bool) -> None:
        self._started = started
        self._ledger = ledger
        self._archive = archive
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def warm_up(self) -> None:
        """Let it load what it loads at first."""
        await self.burst(WARM_UP)

    async def burst(self, count: int) -> float:
        """Announce `count` observations at once, and return the time until all are made, in s."""
        names = self._names(count)
        began = time.monotonic_ns()
        await asyncio.gather(*map(self._announce, names))
        keys = [(product, obs_id) for obs_id in names for product in LEVELS]
        if not await self._ledger.until_made(keys, FINISH_S):
            made = sum(key in self._ledger.made for key in keys)
            raise RuntimeError(f"{made} of {len(keys)} products after {FINISH_S:.0f} s")
        return (max(self._ledger.made[key][0] for key in keys) - began) / 1e9

    async def idle(self, count: int) -> list[float]:
        """Return the times of `count` observations through all levels, one at a time, in s."""
        times = []
        for _ in range(count):
            # What follows the last one has been done.
            await asyncio.sleep(IDLE_S)
            times.append(await self.burst(1))
        return times

    async def rate(self, rate: float, duration_s: float) -> Rate:
        """Announce `rate` observations a second for `duration_s`, whether it follows or not."""
        names = self._names(round(rate * duration_s))
        announcing: list[asyncio.Task[None]] = []
        began = time.monotonic_ns()
        arrivals = [began + round(number * 1e9 / rate) for number in range(len(names))]
        for obs_id, arrival in zip(names, arrivals, strict=True):
            if (wait_ns := arrival - time.monotonic_ns()) > 0:
                await asyncio.sleep(wait_ns / 1e9)
            announcing.append(asyncio.create_task(self._announce(obs_id)))
        end = began + round(duration_s * 1e9)
        last = [(LEVELS[-1], obs_id) for obs_id in names]
        all_made = await self._ledger.until_made(last, GRACE_S)
        await _abandon(announcing)
        return self._figures(names, arrivals, end, all_made=all_made)

    async def check(self) -> None:
        """Check that what was made was made once, and that all of it is archived.

        Raises
        ------
        RuntimeError
            If it was not.
        """
        if repeated := self._ledger.repeated():
            raise RuntimeError(f"not made once: {repeated[:5]}, {len(repeated)} in all")
        if self._archive and (lost := set(self._ledger.made) - await self._started.archived()):
            raise RuntimeError(f"not archived: {sorted(lost)[:5]}, {len(lost)} in all")

    async def _announce(self, obs_id: str) -> None:
        async with self._slots:
            await self._started.announce(obs_id)

    def _names(self, count: int) -> list[str]:
        return [f"o{next(self._numbers)}" for _ in range(count)]

    def _figures(self, names: list[str], arrivals: list[int], end: int, *, all_made: bool) -> Rate:
        now = time.monotonic_ns()
        first = [self._ledger.begun.get((LEVELS[0], obs_id), [math.inf])[0] for obs_id in names]
        waits = sorted(
            (min(begun, now) - arrival) / 1e9
            for begun, arrival in zip(first, arrivals, strict=True)
        )
        p99 = waits[int(0.99 * len(waits))]
        within = sum(begun <= end for begun in first)
        return Rate(within * 1e9 / (end - arrivals[0]), p99, held=all_made and p99 <= HELD_S)


async def _abandon(announcing: list[asyncio.Task[None]]) -> None:
    """Stop waiting for acknowledgements; an announcement that was refused is an error."""
    done, pending = await asyncio.wait(announcing, timeout=0)
    for task in pending:
        task.cancel()
    if pending:
        await asyncio.wait(pending)
    for task in done:
        task.result()


@asynccontextmanager
async def session(system: System, folder: Path, *, archive: bool) -> AsyncIterator[Session]:
    """Start a system in the empty `folder`, warm, and stop it when the block ends."""
    events = folder / "events"
    place = Place(folder, events, archive)
    async with reading(events) as ledger, system.start(place) as started:
        opened = Session(started, ledger, archive=archive)
        await opened.warm_up()
        yield opened
