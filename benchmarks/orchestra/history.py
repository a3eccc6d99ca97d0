"""An orchestra that has run for years beside one that is new: decisions, lists, start, memory.

Run with ``COUNT OBSERVATIONS FOLDER``, it measures both in turns; ``DATABASE`` besides is a
conductor's that `support.history` has filled, for another run.
"""

import asyncio
import shutil
import statistics
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
from nats.aio.client import Client

from benchmarks.orchestra.decision import quantiles_ms
from benchmarks.orchestra.support.driver import connected, notification, start
from benchmarks.orchestra.support.history import PRODUCTS, fill_conductor, name_of
from benchmarks.orchestra.support.maker import Arrivals, Maker, serving
from benchmarks.orchestra.support.services import levels, nats_server, orchestra
from benchmarks.support.figures import Figure, Target
from benchmarks.support.measure import FOLDER, ORCHESTRA, Subject, print_result

DECISION: Final = Target("at most", 1.5)
LISTS_MS: Final = Target("at most", 100)
START_S: Final = Target("at most", 5)
ROUNDS: Final = 10
IDLE_S: Final = 0.02
WARM_UP: Final = 20
TURNS_OF_LISTS: Final = 5
LISTS: Final = (
    "/metrics",
    "/summary",
    "/observations",
    "/observations?order=newest",
    "/observations?order=newest&cursor=1600000100.0_z",
    "/observations/{last}",
    "/observations/{last}/following/L0",
    "/why/L1/{last}",
    "/why/L1/{near}",
    "/processings",
    "/processings?cursor=1600000100.0_z",
    "/processings?state=failed",
    "/processings?product=L7",
    "/processings?product=L7&cursor=1600005000.0_z",
    "/processings?provider=maker9&state=failed",
    "/processings?obs_id={last}",
    "/processings?obs_id=*7777*",
    "/processings?product=unknown*",
    "/rates",
    "/report",
    # A night of the history: 720 observations.
    "/report?from=2020-10-01T18:00Z&to=2020-10-02T06:00Z",
)
MONTH: Final = "/report?from=2020-10-01T00:00Z&to=2020-10-31T00:00Z"
"""As long as a report may be: it counts 43,200 observations, and so is none of the lists."""


@dataclass
class Side:
    """An orchestra under way, and what was measured of it."""

    client: Client
    url: str
    process: psutil.Process
    start_s: float
    times_s: list[float] = field(default_factory=list)

    def rss_mb(self) -> float:
        """Return the memory of the conductor."""
        return float(self.process.memory_info().rss) / 1e6


async def measure(
    count: int, observations: int, folder: Path, filled: Path | None
) -> dict[str, Any]:
    """Return what was measured of both sides."""
    arrivals = Arrivals()
    async with serving(Maker(arrivals.note)) as maker, AsyncExitStack() as stack:
        sides = {
            name: await _open(stack, folder / name, maker, number, filled)
            for name, number in (("new", 0), ("old", observations))
        }
        before = {name: side.rss_mb() for name, side in sides.items()}
        for turn in range(ROUNDS + 1):
            for name, side in sides.items():
                for _ in range(count // ROUNDS if turn else WARM_UP):
                    # Idle: what follows the last request has been done.
                    await asyncio.sleep(IDLE_S)
                    obs_id = f"{name}-{time.time_ns()}"  # known to no database
                    began = time.perf_counter()
                    await side.client.publish("data.vhf", notification(obs_id))
                    took_s = await arrivals.wait_for(obs_id) - began
                    if turn:
                        side.times_s.append(took_s)
        lists = {name: await _read_lists(side.url, observations) for name, side in sides.items()}
        return {
            name: {
                "times_s": side.times_s,
                "start_s": side.start_s,
                "lists_ms": lists[name],
                "rss_mb": [before[name], side.rss_mb()],
            }
            for name, side in sides.items()
        }


async def _open(
    stack: AsyncExitStack, folder: Path, maker: str, observations: int, filled: Path | None
) -> Side:
    await asyncio.to_thread(folder.mkdir)
    database = folder / "conductor.db"
    if filled is not None and observations:
        await asyncio.to_thread(shutil.copy, filled, database)
    else:
        await asyncio.to_thread(fill_conductor, f"sqlite:///{database}", observations)
    nats_url = await start(stack, nats_server(folder))
    began = time.perf_counter()
    found = await start(stack, orchestra(folder, nats_url, levels(maker, PRODUCTS)))
    took_s = time.perf_counter() - began
    client = await stack.enter_async_context(connected(nats_url))
    return Side(client, found.conductor_url, _process_of(database), took_s)


def _process_of(database: Path) -> psutil.Process:
    """Return the conductor of a database."""
    for process in psutil.Process().children(recursive=True):
        command = " ".join(process.cmdline())
        if "ConductorSettings" in command and str(database) in command:
            return process
    raise RuntimeError(f"no conductor of {database}")


async def _read_lists(url: str, observations: int) -> dict[str, float]:
    """Return the median time of each list, in ms."""
    last = name_of(max(observations - 1, 0))
    found = {}
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
        for path in (*LISTS, MONTH):
            times = []
            for _ in range(TURNS_OF_LISTS):
                began = time.perf_counter()
                (await client.get(path.format(last=last, near=f"{last[:-1]}x"))).read()
                times.append(1000 * (time.perf_counter() - began))
            found[path] = statistics.median(times)
    return found


def figures(*, quick: bool) -> list[Figure]:
    """Compare a million observations with none; a hundred thousand where it is to be quick."""
    count, observations = (200, 100_000) if quick else (1000, 1_000_000)
    arguments = (str(count), str(observations), FOLDER)
    result = Subject("history", arguments, package=ORCHESTRA).run()
    old, new = result["old"], result["new"]
    times = (quantiles_ms(side["times_s"]) for side in (old, new))
    decisions = [
        Figure(
            what=f"a decision with {observations:,} observations known: {name}",
            measured=f"{own:.2f} ms",
            against=f"with none: {base:.2f} ms",
            ratio=own / base,
            target=DECISION,
        )
        for name, own, base in zip(("median", "99 %"), *times, strict=True)
    ]
    slowest = max(LISTS, key=lambda path: float(old["lists_ms"][path]))
    return [
        *decisions,
        Figure(
            what=f"the slowest of {len(LISTS)} lists there, {slowest}",
            measured=f"{old['lists_ms'][slowest]:.1f} ms",
            against=f"with none: {new['lists_ms'][slowest]:.1f} ms",
            ratio=old["lists_ms"][slowest],
            unit="ms",
            target=LISTS_MS,
        ),
        Figure(
            what="/metrics there",
            measured=f"{old['lists_ms']['/metrics']:.1f} ms",
            against=f"with none: {new['lists_ms']['/metrics']:.1f} ms",
            ratio=old["lists_ms"]["/metrics"],
            unit="ms",
            target=LISTS_MS,
        ),
        Figure(
            what="the report of 30 days there",
            measured=f"{old['lists_ms'][MONTH]:.0f} ms",
            against=f"of a night: {old['lists_ms'][LISTS[-1]]:.0f} ms",
            ratio=old["lists_ms"][MONTH],
            unit="ms",
        ),
        Figure(
            what="start of sdb and conductor there",
            measured=f"{old['start_s']:.2f} s",
            against=f"with none: {new['start_s']:.2f} s",
            ratio=old["start_s"],
            unit="s",
            target=START_S,
        ),
        Figure(
            what="memory of the conductor there, after all of it",
            measured=f"{old['rss_mb'][1]:.0f} MB, at its start {old['rss_mb'][0]:.0f} MB",
            against=f"with none: {new['rss_mb'][1]:.0f} MB",
            ratio=old["rss_mb"][1] / new["rss_mb"][1],
        ),
    ]


if __name__ == "__main__":
    database = Path(sys.argv[4]) if len(sys.argv) > 4 else None
    sizes = int(sys.argv[1]), int(sys.argv[2])
    print_result(**asyncio.run(measure(*sizes, Path(sys.argv[3]), database)))
