"""Observations through three levels, to the last announcement of the sdb: a burst, and one alone.

Run with ``SIDE OBSERVATIONS ALONE FOLDER``, it measures a side: the time of so many observations at
once, and of so many one after the other. The bare loop archives nothing: each product is a message.
"""

import asyncio
import statistics
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from nats.aio.client import Client

from benchmarks.orchestra.support.driver import Made, connected, notification, start
from benchmarks.orchestra.support.maker import Maker, serving
from benchmarks.orchestra.support.services import (
    KIT,
    conductor,
    levels,
    nats_server,
    processor_s,
    program,
    sdb,
)
from benchmarks.support.figures import Figure, Target
from benchmarks.support.measure import FOLDER, ORCHESTRA, Subject, best, print_result, take_turns

DEPTH: Final = 3
KIT_SIZE: Final = "20"
BURST_TARGET: Final = Target("at most", 1.5)
ALONE_TARGET: Final = Target("at most", 15)
IDLE_S: Final = 0.05
WARM_UP: Final = 10
SUBJECTS: Final = {
    "orchestra": ("data.vhf", "data.sdb"),
    "bare loop": ("bare.x", "baredone.sdb"),
    "kit": ("data.vhf", "data.sdb"),
}


async def measure(side: str, burst: int, alone: int, folder: Path, nats_url: str) -> dict[str, Any]:
    """Return the time of the burst and the median of those alone, in seconds."""
    async with AsyncExitStack() as stack:
        if side == "bare loop":
            await _start_bare_loop(stack, folder, nats_url)
        else:
            await _start_orchestra(stack, folder, nats_url, side)
        client = await stack.enter_async_context(connected(nats_url))
        subject, announced = SUBJECTS[side]
        made = Made(f"L{DEPTH}")
        await client.subscribe(announced, cb=made.on_message)
        times = []
        for number in range(WARM_UP + alone):
            await asyncio.sleep(IDLE_S)
            times.append(await _play(client, subject, made, [f"alone{number}"]))
        before = processor_s()
        time_s = await _play(client, subject, made, [f"burst{number}" for number in range(burst)])
        used = {name: used_s - before[name] for name, used_s in processor_s().items()}
    return {
        "time_s": time_s,
        "alone_s": statistics.median(times[WARM_UP:]),
        "processor_s": sum(used.values()),
        "processes": used,
    }


async def _play(client: Client, subject: str, made: Made, observations: list[str]) -> float:
    began = time.perf_counter()
    for obs_id in observations:
        await client.publish(subject, notification(obs_id))
    await made.wait_for(observations)
    return time.perf_counter() - began


async def _start_orchestra(stack: AsyncExitStack, folder: Path, nats_url: str, side: str) -> None:
    sdb_url = await start(stack, sdb(folder, nats_url))
    support = "benchmarks.orchestra.support"
    makers = ["-m", f"{support}.maker", sdb_url]
    if side == KIT:
        makers = ["-m", f"{support}.kit", nats_url, sdb_url, str(folder)]
    url = await start(stack, program([sys.executable, *makers], folder / "makers.log"))
    graph = levels(f"{url}/pipeline", DEPTH, KIT) if side == KIT else levels(url, DEPTH)
    await start(stack, conductor(folder, nats_url, sdb_url, graph))


async def _start_bare_loop(stack: AsyncExitStack, folder: Path, nats_url: str) -> None:
    url = await stack.enter_async_context(serving(Maker(lambda _product, _obs_id: None)))
    module = "benchmarks.orchestra.support.bare_loop"
    bare = [sys.executable, "-m", module, nats_url, str(folder), url, str(DEPTH)]
    await start(stack, program(bare, folder / "bare.log"))


def figures(*, quick: bool) -> list[Figure]:
    """Compare with the bare loop."""
    size, alone = "200", "20" if quick else "100"
    subjects = {
        side: Subject("burst", (side, count, alone, FOLDER), turns=turns, package=ORCHESTRA)
        for side, count, turns in (
            ("orchestra", size, None),
            ("bare loop", size, None),
            # A process for each processing: this measures the machine's forks above all.
            ("kit", KIT_SIZE, 1),
        )
    }
    results = take_turns(subjects, 2 if quick else 5)
    own, bare = results["orchestra"], results["bare loop"]
    least = min(own, key=lambda result: float(result["processor_s"]))
    return [
        Figure(
            what=f"{size} observations at once through {DEPTH} levels, archived",
            measured=f"{best(own):.2f} s",
            against=f"a bare loop, not archived: {best(bare):.2f} s",
            ratio=best(own),
            unit="s",
            target=BURST_TARGET,
        ),
        Figure(
            what="its processor time, all processes",
            measured=f"{best(own, 'processor_s'):.2f} s",
            against=", ".join(f"{name} {used:.2f} s" for name, used in least["processes"].items()),
            ratio=best(own, "processor_s") / best(bare, "processor_s"),
        ),
        Figure(
            what=f"one observation through {DEPTH} levels, archived",
            measured=f"{1000 * best(own, 'alone_s'):.1f} ms",
            against=f"a bare loop, not archived: {1000 * best(bare, 'alone_s'):.1f} ms",
            ratio=1000 * best(own, "alone_s"),
            unit="ms",
            target=ALONE_TARGET,
        ),
        Figure(
            what=f"{KIT_SIZE} observations at once, by pipelines of the kit",
            measured=f"{best(results['kit']):.2f} s",
            against="a process for each of 60 processings",
            ratio=best(results["kit"]) / (DEPTH * int(KIT_SIZE)) * 1000,
            unit="ms each",
        ),
    ]


if __name__ == "__main__":
    wanted, many, few, name = sys.argv[1:]
    with nats_server(Path(name)) as address:
        print_result(**asyncio.run(measure(wanted, int(many), int(few), Path(name), address)))
