"""Notifications a second that are recorded, decided and acknowledged while requests leave.

Run with ``SIDE COUNT FOLDER``, it measures a side: all notifications wait in NATS before it starts.
"""

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from nats.aio.client import Client

from batuta.messaging import NatsConfig, connect
from benchmarks.orchestra.support.driver import notification, start
from benchmarks.orchestra.support.maker import Arrivals, Maker, serving
from benchmarks.orchestra.support.services import levels, nats_server, orchestra, program
from benchmarks.support.figures import Figure, Target
from benchmarks.support.measure import FOLDER, ORCHESTRA, Subject, best, print_result, take_turns

TARGET: Final = Target("at least", 3000)
SIDES: Final = {"conductor": ("DATA", "data.vhf"), "bare loop": ("BARE", "bare.x")}
FIRST_PART: Final = 0.1
"""Not counted: the first notifications find the process still starting."""


async def measure(side: str, count: int, folder: Path, nats_url: str) -> float:
    """Return how long all but the first take to be acknowledged, in seconds each."""
    stream, subject = SIDES[side]
    arrivals = Arrivals()
    async with serving(Maker(arrivals.note)) as url, AsyncExitStack() as stack:
        # Makes the streams of an orchestra.
        bus = await stack.enter_async_context(connect(NatsConfig(url=nats_url), "bench"))
        if side == "bare loop":
            await bus.jetstream.add_stream(name=stream, subjects=["bare.*"])
        for number in range(count):
            await bus.client.publish(subject, notification(f"r{number}"))
        await bus.client.flush()
        # NATS syncs each message: how fast it stores them is not what is measured.
        while (await bus.jetstream.stream_info(stream)).state.messages < count:  # noqa: ASYNC110  the server's state
            await asyncio.sleep(0.05)
        if side == "bare loop":
            bare = ["-m", "benchmarks.orchestra.support.bare_loop", nats_url, str(folder), url, "0"]
            await start(stack, program([sys.executable, *bare], folder / "bare.log"))
        else:
            await start(stack, orchestra(folder, nats_url, levels(url, 1)))
        first = await _acknowledged(bus.client, stream, int(count * FIRST_PART))
        last = await _acknowledged(bus.client, stream, count)
    return (last[0] - first[0]) / (last[1] - first[1])


async def _acknowledged(client: Client, stream: str, count: int) -> tuple[float, int]:
    """Return when at least `count` messages of a stream were acknowledged, and how many were."""
    jetstream = client.jetstream()
    async with asyncio.timeout(170):
        while True:
            for consumer in await jetstream.consumers_info(stream):
                done = consumer.ack_floor.stream_seq if consumer.ack_floor else 0
                if done >= count:
                    return time.perf_counter(), done
            await asyncio.sleep(0.02)


def figures(*, quick: bool) -> list[Figure]:
    """Compare with the bare loop, which commits each message by itself."""
    subjects = {
        side: Subject("notifications", (side, str(size), FOLDER), package=ORCHESTRA)
        for side, size in (("conductor", 5_000 if quick else 20_000), ("bare loop", 2_000))
    }
    results = take_turns(subjects, 2 if quick else 4)
    own, bare = (1 / best(results[side]) for side in ("conductor", "bare loop"))
    return [
        Figure(
            what="notifications recorded, decided and acknowledged",
            measured=f"{own:,.0f} a second",
            against=f"a bare loop, one by one: {bare:,.0f} a second",
            ratio=own,
            unit="a second",
            target=TARGET,
        )
    ]


if __name__ == "__main__":
    wanted, number, name = sys.argv[1:]
    with nats_server(Path(name)) as address:
        print_result(time_s=asyncio.run(measure(wanted, int(number), Path(name), address)))
