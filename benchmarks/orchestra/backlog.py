"""A backlog that operators hold, release at a rate, and cancel; and alerts meanwhile.

Run with ``BACKLOG FOLDER``: so many backfills wait at one provider, whose slots for them are taken.
"""

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import aiohttp

from benchmarks.orchestra.support.alerts import WARM_UP, Alerts, alert_figure
from benchmarks.orchestra.support.backlog import (
    LOOK_EACH_S,
    RUNNING_BACKFILLS,
    Operator,
    announce,
    limited,
)
from benchmarks.orchestra.support.bare_writes import updates_s
from benchmarks.orchestra.support.driver import connected, start
from benchmarks.orchestra.support.maker import Arrivals, Maker, serving
from benchmarks.orchestra.support.services import nats_server, orchestra
from benchmarks.support.figures import Figure, Target
from benchmarks.support.measure import FOLDER, ORCHESTRA, Subject, print_result

BACKLOG: Final = 100_000
ALERTS_BEFORE: Final = 200
RATE_PER_MINUTE: Final = 6_000
RATED_S: Final = 10.0
BACKFILLS: Final = {"class": "backfill"}
RATE_TARGET: Final = Target("at least", 0.95)


async def measure(backlog: int, folder: Path) -> dict[str, Any]:
    """Return how long each order takes, and the alerts before and meanwhile, in seconds."""
    arrivals = Arrivals()
    async with serving(Maker(arrivals.note)) as url, AsyncExitStack() as stack:
        nats_url = await start(stack, nats_server(folder))
        players = await start(stack, orchestra(folder, nats_url, limited(url)))
        client = await stack.enter_async_context(connected(nats_url))
        timeout = aiohttp.ClientTimeout(total=600)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        operator = Operator(session, players.conductor_url)
        await announce(client, backlog)
        await operator.wait_for_processings(backlog)
        alerts = Alerts(client, arrivals)
        await alerts.measure(WARM_UP)
        before = await alerts.measure(ALERTS_BEFORE)
        found: dict[str, Any] = {"before": before}
        async with alerts.meanwhile() as found["alerts_holding"]:
            found |= await _hold(operator, backlog)
        found["rate"] = await _release_at_rate(operator)
        async with alerts.meanwhile() as found["alerts_cancelling"]:
            found |= await _cancel(operator)
    found["bare_s"] = await asyncio.to_thread(updates_s, folder, backlog)
    return found


async def _hold(operator: Operator, backlog: int) -> dict[str, float]:
    began = time.perf_counter()
    placing = asyncio.create_task(operator.post("/holds", BACKFILLS))
    while not (await operator.get("/holds"))["items"]:  # noqa: ASYNC110  the conductor's state
        await asyncio.sleep(0.005)
    recorded_s = time.perf_counter() - began
    await operator.wait_until("held", backlog - RUNNING_BACKFILLS)
    marked_s = time.perf_counter() - began
    await placing
    return {"recorded_s": recorded_s, "marked_s": marked_s}


async def _release_at_rate(operator: Operator) -> float:
    """Return how many are let go in a second; then let go of all."""
    await operator.post("/holds/1/release", {"rate": f"{RATE_PER_MINUTE}/min"})
    began, held = time.perf_counter(), (await operator.counts())["held"]
    await asyncio.sleep(RATED_S)
    left = (await operator.counts())["held"]
    return (held - left) / (time.perf_counter() - began)


async def _cancel(operator: Operator) -> dict[str, float]:
    order = {"command": "cancel", "filters": BACKFILLS}
    began = time.perf_counter()
    await operator.post("/orders/preview", order)
    previewed_s = time.perf_counter() - began
    began = time.perf_counter()
    number = (await operator.post("/orders", order))["number"]
    while (await operator.get(f"/orders/{number}"))["ended"] is None:  # noqa: ASYNC110  the same
        await asyncio.sleep(LOOK_EACH_S)
    return {"previewed_s": previewed_s, "cancelled_s": time.perf_counter() - began}


def figures(*, quick: bool) -> list[Figure]:
    """Compare with plain updates of as many rows, and with the alerts before."""
    backlog = BACKLOG // 10 if quick else BACKLOG
    found = Subject("backlog", (str(backlog), FOLDER), package=ORCHESTRA).run()
    bare_s, before = float(found["bare_s"]), found["before"]
    wanted = RATE_PER_MINUTE / 60
    return [
        Figure(
            what=f"a hold of {backlog:,} that wait: all marked",
            measured=f"{found['marked_s']:.1f} s, in force after "
            f"{1000 * found['recorded_s']:.0f} ms",
            against=f"plain SQLite: {bare_s:.1f} s",
            ratio=found["marked_s"] / bare_s,
        ),
        alert_figure("while they are marked", found["alerts_holding"], before),
        Figure(
            what=f"its release at {RATE_PER_MINUTE:,} a minute",
            measured=f"{found['rate']:.1f} a second",
            against=f"as ordered: {wanted:.0f} a second",
            ratio=found["rate"] / wanted,
            target=RATE_TARGET,
        ),
        Figure(
            what=f"cancelling {backlog:,} by one order",
            measured=f"{found['cancelled_s']:.1f} s, previewed in {found['previewed_s']:.2f} s",
            against=f"plain SQLite: {bare_s:.1f} s",
            ratio=found["cancelled_s"] / bare_s,
        ),
        alert_figure("while they are cancelled", found["alerts_cancelling"], before),
    ]


if __name__ == "__main__":
    print_result(**asyncio.run(measure(int(sys.argv[1]), Path(sys.argv[2]))))
