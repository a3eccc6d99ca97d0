"""Putting a graph in force that starts a product of each observation; and alerts meanwhile.

Run with ``OBSERVATIONS FOLDER``: so many have arrived of which the first graph makes nothing.
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
from benchmarks.support.figures import Figure
from benchmarks.support.measure import FOLDER, ORCHESTRA, Subject, print_result

OBSERVATIONS: Final = 30_000
ALERTS_BEFORE: Final = 200


def first_graph(url: str) -> dict[str, Any]:
    """Return a graph that makes something of alerts alone: of ``OTHER``, which they announce."""
    graph = limited(url)
    return {**graph, "products": {"ALERTED": {**graph["products"]["L1"], "m_input": ["OTHER"]}}}


def second_graph(url: str) -> dict[str, Any]:
    """Return one that makes ``L1`` of what has arrived, besides."""
    first, second = first_graph(url), limited(url)
    return {**second, "products": {**first["products"], **second["products"]}}


async def measure(observations: int, folder: Path) -> dict[str, Any]:
    """Return how long the preview and the settling take, and the alerts, in seconds."""
    arrivals = Arrivals()
    async with serving(Maker(arrivals.note)) as url, AsyncExitStack() as stack:
        nats_url = await start(stack, nats_server(folder))
        players = await start(stack, orchestra(folder, nats_url, first_graph(url)))
        client = await stack.enter_async_context(connected(nats_url))
        timeout = aiohttp.ClientTimeout(total=600)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        operator = Operator(session, players.conductor_url)
        await announce(client, observations)
        while (await _known(operator)) < observations:  # noqa: ASYNC110  the conductor's state
            await asyncio.sleep(LOOK_EACH_S)
        alerts = Alerts(client, arrivals, product="OTHER")
        await alerts.measure(WARM_UP)
        before = await alerts.measure(ALERTS_BEFORE)
        graph = second_graph(url)
        async with alerts.meanwhile() as meanwhile:
            began = time.perf_counter()
            preview = await operator.post("/graph/preview", {"graph": graph})
            previewed_s = time.perf_counter() - began
            began = time.perf_counter()
            await operator.post("/graph/versions", {"graph": graph, "class": "backfill"})
            applied_s = time.perf_counter() - began
            await operator.wait_until("waiting", observations - RUNNING_BACKFILLS)
            settled_s = time.perf_counter() - began
    if preview["counts"]["starts"] != {"L1": observations}:
        raise RuntimeError(f"the preview says: {preview['counts']['starts']}")
    return {
        "previewed_s": previewed_s,
        "applied_s": applied_s,
        "settled_s": settled_s,
        "before": before,
        "meanwhile": meanwhile,
        "bare_s": await asyncio.to_thread(updates_s, folder, observations),
    }


async def _known(operator: Operator) -> int:
    return int((await operator.get("/summary"))["observations"])


def figures(*, quick: bool) -> list[Figure]:
    """Compare with plain writes of as many rows, and with the alerts before."""
    observations = OBSERVATIONS // 10 if quick else OBSERVATIONS
    found = Subject("graph_apply", (str(observations), FOLDER), package=ORCHESTRA).run()
    return [
        Figure(
            what=f"a graph that starts a product of {observations:,} observations, all claimed",
            measured=f"{found['settled_s']:.2f} s, in force after {1000 * found['applied_s']:.0f} "
            f"ms, previewed in {found['previewed_s']:.2f} s",
            against=f"plain SQLite: {found['bare_s']:.2f} s",
            ratio=found["settled_s"] / found["bare_s"],
        ),
        alert_figure("while they are claimed", found["meanwhile"], found["before"]),
    ]


if __name__ == "__main__":
    print_result(**asyncio.run(measure(int(sys.argv[1]), Path(sys.argv[2]))))
