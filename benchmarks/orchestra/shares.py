"""The classes of work at one slot: which share of the turns each has, and how long each waits.

Run with ``ROUNDS FOLDER``: each class has a backlog at a provider that takes one processing at a
time, and as many turns are played as all shares make together, that often.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import aiohttp

from batuta.work_classes import DEFAULT_SHARES, WorkClass
from benchmarks.orchestra.support.backlog import Operator, announce
from benchmarks.orchestra.support.driver import connected, start
from benchmarks.orchestra.support.maker import Arrivals, Importer, Maker, serving
from benchmarks.orchestra.support.services import conductor, levels, nats_server, sdb
from benchmarks.support.figures import Figure, Target
from benchmarks.support.measure import FOLDER, ORCHESTRA, Subject, print_result

ROUNDS: Final = 20
ROUNDS_QUICK: Final = 5
SPARE: Final = 20
"""Of each class, so that all of them still wait at the last turn."""
TURN_TIMEOUT_S: Final = 10.0
SHARE_TARGET: Final = Target("at least", 0.95)
WAIT_TARGET: Final = Target("at most", 1.0)


class GatedImporter(Importer):
    """Imports nothing until it is opened: what is requested first keeps the slot until then."""

    def __init__(self, session: aiohttp.ClientSession, sdb_url: str) -> None:
        super().__init__(session, sdb_url)
        self.opened = asyncio.Event()

    async def add(self, **fields: str) -> None:
        """Import a few bytes, once it is opened."""
        await self.opened.wait()
        await super().add(**fields)


async def measure(rounds: int, folder: Path) -> dict[str, Any]:
    """Return the classes that had the turns, in order, and when each began, in seconds."""
    turns = rounds * sum(DEFAULT_SHARES.values())
    backlog = {each: rounds * share + SPARE for each, share in DEFAULT_SHARES.items()}
    arrivals = Arrivals()
    async with AsyncExitStack() as stack:
        nats_url = await start(stack, nats_server(folder))
        sdb_url = await start(stack, sdb(folder, nats_url))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        importer = GatedImporter(session, sdb_url)
        url = await stack.enter_async_context(serving(Maker(arrivals.note, importer)))
        graph = {**levels(url, 1), "providers": {"maker1": {"max_concurrent": 1}}}
        conductor_url = await start(stack, conductor(folder, nats_url, sdb_url, graph))
        client = await stack.enter_async_context(connected(nats_url))
        for work_class, number in backlog.items():
            await announce(client, number, work_class.value)
        await Operator(session, conductor_url).wait_for_processings(sum(backlog.values()))
        importer.opened.set()
        # The first had the slot before anyone else waited.
        await arrivals.wait_for_count(1 + turns, TURN_TIMEOUT_S * turns)
    began = list(arrivals.at.items())[1 : 1 + turns]
    return {
        "classes": [obs_id.partition("-")[0] for obs_id, _ in began],
        "at_s": [at_s for _, at_s in began],
    }


def longest_wait(
    classes: Sequence[str], at_s: Sequence[float], work_class: WorkClass
) -> tuple[int, float]:
    """Return the most turns between two of a class, or before its first, and the most seconds."""
    mine = [turn for turn, each in enumerate(classes, 1) if each == work_class]
    apart = [after - before for before, after in pairwise([0, *mine])]
    times = [at_s[turn - 1] for turn in mine]
    return max(apart), max((after - before for before, after in pairwise(times)), default=0.0)


def wait_bound(work_class: WorkClass) -> int:
    """Return within how many turns a class has one, while all wait.

    The lowest takes exactly one of any ``sum of shares`` in a row. The turns of the others are not
    spread as evenly around those of the larger ones: within twice their interval.
    """
    total, share = sum(DEFAULT_SHARES.values()), DEFAULT_SHARES[work_class]
    interval = -(-total // share)
    return interval if share == min(DEFAULT_SHARES.values()) else 2 * interval


def figures(*, quick: bool) -> list[Figure]:
    """Compare the shares with the weights, and the waits with their bounds."""
    rounds = ROUNDS_QUICK if quick else ROUNDS
    result = Subject("shares", (str(rounds), FOLDER), package=ORCHESTRA).run()
    classes, at_s = result["classes"], result["at_s"]
    total, turns = sum(DEFAULT_SHARES.values()), Counter[str](classes)
    found = []
    for work_class, share in DEFAULT_SHARES.items():
        own, expected = turns[work_class.value] / len(classes), share / total
        apart, apart_s = longest_wait(classes, at_s, work_class)
        bound = wait_bound(work_class)
        found += [
            Figure(
                what=f"class {work_class.value}, while all classes wait: its share of "
                f"{len(classes):,} turns",
                measured=f"{100 * own:.2f} %",
                against=f"its weight, {share} of {total}: {100 * expected:.2f} %",
                ratio=own / expected,
                target=SHARE_TARGET,
            ),
            Figure(
                what=f"class {work_class.value}: its longest wait for a turn",
                measured=f"{apart} turns, {apart_s:.2f} s",
                against=f"the bound: {bound} turns",
                ratio=apart / bound,
                target=WAIT_TARGET,
            ),
        ]
    return found


if __name__ == "__main__":
    print_result(**asyncio.run(measure(int(sys.argv[1]), Path(sys.argv[2]))))
