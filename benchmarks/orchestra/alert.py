"""An alert in front of a backfill: from its notification to its request.

Run with ``COUNT BACKLOG FOLDER``, it measures in turns a conductor in front of which so many
backfills wait for one provider, one by which they are held, and one that is idle. Those that run at
the provider never end, so that the backlog stays as it is; the slots that they leave free are for
what is more urgent.
"""

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import aiohttp
from nats.aio.client import Client

from benchmarks.orchestra.decision import IDLE_S, ROUNDS, WARM_UP, quantiles_ms
from benchmarks.orchestra.support.backlog import Operator, announce, classed, limited
from benchmarks.orchestra.support.driver import connected, start
from benchmarks.orchestra.support.maker import Arrivals, Maker, serving
from benchmarks.orchestra.support.services import nats_server, orchestra
from benchmarks.support.figures import Figure, Target
from benchmarks.support.measure import FOLDER, ORCHESTRA, Subject, print_result

TARGET: Final = Target("at most", 1.2)
BACKLOG: Final = 100_000
HELD: Final = "held"


async def _fill(name: str, client: Client, conductor_url: str, backlog: int) -> None:
    """Announce the backfills, held or not, and return once all of them are claimed."""
    async with aiohttp.ClientSession() as session:
        operator = Operator(session, conductor_url)
        if name == HELD:
            await operator.post("/holds", {"class": "backfill"})
        await announce(client, backlog)
        await operator.wait_for_processings(backlog)


async def measure(count: int, backlog: int, folder: Path) -> dict[str, list[float]]:
    """Return the times of each side, in seconds."""
    arrivals = Arrivals()
    sides = {"idle": 0, "backlog": backlog, HELD: backlog}
    async with serving(Maker(arrivals.note)) as url, AsyncExitStack() as stack:
        clients = {}
        for name, waiting in sides.items():
            (folder / name).mkdir()
            nats_url = await start(stack, nats_server(folder / name))
            players = await start(stack, orchestra(folder / name, nats_url, limited(url)))
            clients[name] = await stack.enter_async_context(connected(nats_url))
            await _fill(name, clients[name], players.conductor_url, waiting)
        times: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(ROUNDS + 1):
            for name, client in clients.items():
                for number in range(count // ROUNDS if turn else WARM_UP):
                    # Idle but for the backlog: what follows the last request has been done.
                    await asyncio.sleep(IDLE_S)
                    obs_id = f"{name}-{turn}-{number}"
                    began = time.perf_counter()
                    await client.publish("data.vhf", classed(obs_id, "alert"))
                    took_s = await arrivals.wait_for(obs_id) - began
                    if turn:
                        times[name].append(took_s)
    return times


def figures(*, quick: bool) -> list[Figure]:
    """Compare with an idle orchestra."""
    backlog = BACKLOG // 10 if quick else BACKLOG
    arguments = (str(200 if quick else 1000), str(backlog), FOLDER)
    result = Subject("alert", arguments, package=ORCHESTRA).run()
    idle = quantiles_ms(result["idle"])
    return [
        Figure(
            what=f"an alert in front of {backlog:,} backfills{side}, to its request: {name}",
            measured=f"{value:.2f} ms",
            against=f"idle: {base:.2f} ms",
            ratio=value / base,
            target=TARGET,
        )
        for measured, side in (("backlog", ""), (HELD, " that are held"))
        for name, value, base in zip(
            ("median", "99 %"), quantiles_ms(result[measured]), idle, strict=True
        )
    ]


if __name__ == "__main__":
    print_result(**asyncio.run(measure(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))))
