"""What goes wrong, done to an orchestra."""

import asyncio
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from tests.support.chaos.orchestra import Orchestra
from tests.support.chaos.plan import Fault, Kind
from tests.support.chaos.proxy import State

FULL_S: Final = 0.2
"""A disk is filled again so often: what runs gives room back."""


class FaultInjector:
    """Carries out faults; one at a time of each service, link, disk and clock.

    Attributes
    ----------
    done : Counter
        How many there were of each kind.
    """

    def __init__(self, orchestra: Orchestra) -> None:
        self._orchestra = orchestra
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}
        self.done: Counter[str] = Counter()

    async def apply(self, fault: Fault) -> None:
        """Let it begin and end."""
        if fault.kind in self._orchestra.left_out:
            return
        place = _PLACES[fault.kind]
        async with self._locks.setdefault((place, fault.of), asyncio.Lock()):
            async with _EFFECTS[fault.kind](self._orchestra, fault):
                await asyncio.sleep(fault.for_s)
            self.done[f"{fault.kind} {_group(fault.of)}"] += 1


def _group(of: str) -> str:
    """Return what kind of service or link it is."""
    return ">".join(re.sub(r"-\d$", "", name) for name in of.split(">"))


@asynccontextmanager
async def _kill(orchestra: Orchestra, fault: Fault) -> AsyncIterator[None]:
    service = orchestra.services[fault.of]
    service.kill()
    yield
    service.start()


@asynccontextmanager
async def _pause(orchestra: Orchestra, fault: Fault) -> AsyncIterator[None]:
    service = orchestra.services[fault.of]
    service.signal(signal.SIGSTOP)
    yield
    service.signal(signal.SIGCONT)


def _link(state: State) -> Callable[[Orchestra, Fault], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def effect(orchestra: Orchestra, fault: Fault) -> AsyncIterator[None]:
        link = orchestra.links[fault.of]
        link.set(state)
        yield
        link.set("open")

    return effect


@asynccontextmanager
async def _disk_full(orchestra: Orchestra, fault: Fault) -> AsyncIterator[None]:
    disk = orchestra.disks[fault.of]

    over = asyncio.Event()

    async def keep_full() -> None:
        while not over.is_set():
            await asyncio.to_thread(disk.fill)
            await asyncio.sleep(FULL_S)

    filling = asyncio.create_task(keep_full())
    yield
    over.set()
    await filling
    disk.free()


@asynccontextmanager
async def _clock_jump(orchestra: Orchestra, fault: Fault) -> AsyncIterator[None]:
    orchestra.clocks[fault.of].set(fault.by_s)
    yield
    orchestra.clocks[fault.of].set(0)


_EFFECTS: Final[dict[Kind, Callable[[Orchestra, Fault], AbstractAsyncContextManager[None]]]] = {
    "kill": _kill,
    "pause": _pause,
    "cut": _link("cut"),
    "stall": _link("stall"),
    "mute": _link("mute"),
    "disk_full": _disk_full,
    "clock_jump": _clock_jump,
}

_PLACES: Final[dict[Kind, str]] = {
    "kill": "process",
    "pause": "process",
    "cut": "link",
    "stall": "link",
    "mute": "link",
    "disk_full": "disk",
    "clock_jump": "clock",
}
