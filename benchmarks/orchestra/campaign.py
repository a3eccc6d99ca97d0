"""Planning a campaign over all that an orchestra has ever observed; and alerts meanwhile.

Run with ``OBSERVATIONS FOLDER``: the conductor's database is filled with so many first.
"""

import asyncio
import sqlite3
import sys
import time
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any, Final

import aiohttp

from benchmarks.orchestra.support.alerts import WARM_UP, Alerts, alert_figure
from benchmarks.orchestra.support.backlog import Operator
from benchmarks.orchestra.support.driver import connected, start
from benchmarks.orchestra.support.history import PRODUCTS, fill_conductor
from benchmarks.orchestra.support.maker import Arrivals, Maker, serving
from benchmarks.orchestra.support.services import levels, nats_server, orchestra
from benchmarks.orchestra.support.write_probe import waits_for_lock
from benchmarks.support.figures import Figure
from benchmarks.support.measure import FOLDER, ORCHESTRA, Subject, print_result

OBSERVATIONS: Final = 1_000_000
ALERTS_BEFORE: Final = 200
ORDER: Final = {"products": ["L1"], "scope": "all"}
SELECT: Final = "SELECT obs_id, product, version FROM conductor_available ORDER BY obs_id"


async def measure(observations: int, folder: Path) -> dict[str, Any]:
    """Return how long the plan and the plain read take, and alerts and writes, in seconds."""
    arrivals = Arrivals()
    database = folder / "conductor.db"
    await asyncio.to_thread(fill_conductor, f"sqlite:///{database}", observations)
    async with serving(Maker(arrivals.note)) as url, AsyncExitStack() as stack:
        nats_url = await start(stack, nats_server(folder))
        players = await start(stack, orchestra(folder, nats_url, levels(url, PRODUCTS)))
        client = await stack.enter_async_context(connected(nats_url))
        timeout = aiohttp.ClientTimeout(total=600)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        operator = Operator(session, players.conductor_url)
        alerts = Alerts(client, arrivals)
        await alerts.measure(WARM_UP)
        async with waits_for_lock(database) as waits_before:
            before = await alerts.measure(ALERTS_BEFORE)
        selected_s, rows = await asyncio.to_thread(_select, database)
        async with alerts.meanwhile() as meanwhile, waits_for_lock(database) as waits:
            began = time.perf_counter()
            planned = await operator.post("/campaigns", ORDER)
            planned_s = time.perf_counter() - began
        selected_s = min(selected_s, (await asyncio.to_thread(_select, database))[0])
    if planned["plan"]["processings"] < observations:
        raise RuntimeError(f"planned: {planned['plan']}")
    return {
        "planned_s": planned_s,
        "selected_s": selected_s,
        "rows": rows,
        "before": before,
        "meanwhile": meanwhile,
        "wait_before_s": max(waits_before),
        "wait_s": max(waits),
    }


def _select(database: Path) -> tuple[float, int]:
    """Read all rows that a plan depends on, and do nothing with them; return how long it takes."""
    with closing(sqlite3.connect(database)) as connection:
        began = time.perf_counter()
        rows = sum(1 for _ in connection.execute(SELECT))
        return time.perf_counter() - began, rows


def figures(*, quick: bool) -> list[Figure]:
    """Compare with a plain read of the same rows, and with alerts and writes before."""
    observations = OBSERVATIONS // 10 if quick else OBSERVATIONS
    found = Subject("campaign", (str(observations), FOLDER), package=ORCHESTRA).run()
    return [
        Figure(
            what=f"planning a campaign over {observations:,} observations",
            measured=f"{found['planned_s']:.2f} s",
            against=f"a plain SELECT of its {found['rows']:,} rows: {found['selected_s']:.2f} s",
            ratio=found["planned_s"] / found["selected_s"],
        ),
        Figure(
            what="the longest that a write waits meanwhile",
            measured=f"{1000 * found['wait_s']:.0f} ms",
            against=f"before it: {1000 * found['wait_before_s']:.0f} ms",
            ratio=found["wait_s"] / found["wait_before_s"],
        ),
        alert_figure("while it is planned", found["meanwhile"], found["before"]),
    ]


if __name__ == "__main__":
    print_result(**asyncio.run(measure(int(sys.argv[1]), Path(sys.argv[2]))))
