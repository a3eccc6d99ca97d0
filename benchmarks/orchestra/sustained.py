"""Events at a steady rate for ten seconds: how many are begun a second, and how late.

Run with ``SIDE RATE SECONDS FOLDER``, it measures a side. An event is begun when its pipeline has
its request; it is late from the moment at which it was due to be published. ``NATS alone`` has
nobody who listens: how many it stores a second, each with a sync, bounds all others.
"""

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from nats.aio.client import Client

from benchmarks.orchestra.support.driver import connected, notification, start
from benchmarks.orchestra.support.maker import Arrivals, Maker, serving
from benchmarks.orchestra.support.services import levels, nats_server, orchestra, program
from benchmarks.support.figures import Figure, Target
from benchmarks.support.measure import FOLDER, ORCHESTRA, Subject, best, print_result, take_turns

RATE: Final = 2000
TARGET: Final = Target("at most", 100)
SUBJECTS: Final = {"conductor": "data.vhf", "bare loop": "bare.x"}
NATS_ALONE: Final = "NATS alone"
WARM_UP: Final = 20
TICK_S: Final = 0.005


async def measure(
    side: str, rate: int, seconds: float, folder: Path, nats_url: str
) -> dict[str, Any]:
    """Return how many are begun a second, and the 99th percentile of how late, in seconds."""
    arrivals = Arrivals()
    async with serving(Maker(arrivals.note)) as url, AsyncExitStack() as stack:
        if side == "bare loop":
            bare = ["-m", "benchmarks.orchestra.support.bare_loop", nats_url, str(folder), url, "0"]
            await start(stack, program([sys.executable, *bare], folder / "bare.log"))
        else:
            await start(stack, orchestra(folder, nats_url, levels(url, 1)))
        client = await stack.enter_async_context(connected(nats_url))
        for number in range(WARM_UP):
            await client.publish(SUBJECTS[side], notification(f"warm{number}"))
            await arrivals.wait_for(f"warm{number}")
        count = int(rate * seconds)
        began = time.perf_counter()
        due = await _publish(client, SUBJECTS[side], rate, count)
        await arrivals.wait_for_count(count + WARM_UP)
        took_s = max(arrivals.at.values()) - began
    late = sorted(arrivals.at[obs_id] - due_at for obs_id, due_at in due.items())
    return {"time_s": took_s / count, "late_s": late[int(0.99 * count)]}


async def measure_nats(rate: int, seconds: float, nats_url: str) -> dict[str, Any]:
    """Return how long NATS takes to store an event, in seconds, if nobody receives any."""
    count = int(rate * seconds)
    async with connected(nats_url) as client:
        jetstream = client.jetstream()
        await jetstream.add_stream(name="EVENTS", subjects=["events"])
        began = time.perf_counter()
        await _publish(client, "events", rate, count)
        # It is acknowledged once it is stored, and so are those before it.
        await jetstream.publish("events", notification("last"), timeout=120)
    return {"time_s": (time.perf_counter() - began) / count}


async def _publish(client: Client, subject: str, rate: int, count: int) -> dict[str, float]:
    """Publish so many events at a rate; return when each was due."""
    began = time.perf_counter()
    due = {f"o{number}": began + number / rate for number in range(count)}
    for obs_id, due_at in due.items():
        wait_s = due_at - time.perf_counter()
        if wait_s > TICK_S:
            await asyncio.sleep(wait_s)
        await client.publish(subject, notification(obs_id))
    await client.flush()
    return due


def figures(*, quick: bool) -> list[Figure]:
    """Compare with the bare loop, at the rate that is asked for and at slower ones."""
    seconds = "2" if quick else "10"
    lines = []
    for rate in (RATE,) if quick else (500, 1000, RATE):
        subjects = {
            side: Subject("sustained", (side, str(rate), seconds, FOLDER), package=ORCHESTRA)
            for side in (*SUBJECTS, NATS_ALONE)
        }
        results = take_turns(subjects, 1 if quick else 2)
        own, bare = results["conductor"], results["bare loop"]
        late_ms, bare_ms = 1000 * best(own, "late_s"), 1000 * best(bare, "late_s")
        bare_text = f"{1 / best(bare):,.0f} a second, 99 % within {bare_ms:,.0f} ms"
        stored = f"NATS alone stores {1 / best(results[NATS_ALONE]):,.0f} a second"
        lines.append(
            Figure(
                what=f"{rate:,} events a second for {seconds} s, begun",
                measured=f"{1 / best(own):,.0f} a second, 99 % within {late_ms:,.0f} ms",
                against=f"a bare loop: {bare_text}; {stored}",
                ratio=late_ms,
                unit="ms",
                target=TARGET if rate == RATE else None,
            )
        )
    return lines


if __name__ == "__main__":
    wanted, hertz, lasting, name = sys.argv[1:]
    with nats_server(Path(name)) as address:
        if wanted == NATS_ALONE:
            found = measure_nats(int(hertz), float(lasting), address)
        else:
            found = measure(wanted, int(hertz), float(lasting), Path(name), address)
        print_result(**asyncio.run(found))
