"""The conductor's speed: from a notification to its request, and notifications a second.

``python benchmarks/bench_conductor.py``: each figure is told beside a bare loop's in the same
run, on the same disk and the same NATS. The bare loop does what no conductor can do without: it
takes a message with nats-py, commits a row to SQLite as safely (``synchronous = FULL``), and
sends an HTTP request.
"""

import argparse
import asyncio
import contextlib
import json
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import nats
import uvicorn
from fastapi import FastAPI, Request
from nats.aio.msg import Msg

from batuta.conductor import ConductorSettings
from batuta.conductor.service import open_conductor
from batuta.messaging import NatsConfig, connect
from batuta.messaging.server import server_answers, server_command
from batuta.sdb import SdbSettings
from batuta.sdb.service import open_sdb
from batuta.service.sockets import address_of, listen

GRAPH: Final[dict[str, Any]] = {
    "inputs": ["A", "OTHER"],
    "products": {"B": {"m_input": ["A"], "o_input": [], "provider": "maker", "url": ""}},
}


IDLE_S = 0.02


class Maker:
    """A pipeline that notes when it is asked, and says that it works."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.asked: dict[str, float] = {}
        self.arrived = asyncio.Event()

        @self.app.post("/pipeline/processing", status_code=202)
        async def request(body: Request) -> dict[str, str]:
            asked = await body.json()
            self.asked[asked["obs_id"]] = time.perf_counter()
            self.arrived.set()
            names = {name: asked[name] for name in ("product", "obs_id")}
            return self._running(**names, id=asked["processing_id"])

        @self.app.get("/pipeline/processing/{processing_id}")
        async def processing(processing_id: str) -> dict[str, str]:
            return self._running(product="B", obs_id="any", id=processing_id)

    @staticmethod
    def _running(**names: str) -> dict[str, str]:
        return {**names, "state": "running"}


@contextlib.asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """Serve `app` in this event loop."""
    with listen("127.0.0.1", 0) as sock:
        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            yield address_of(sock)
        finally:
            server.should_exit = True
            await task


async def latencies_s(
    publish: Callable[[str], Awaitable[None]], maker: Maker, count: int
) -> list[float]:
    """Time from each publication to its request, one after the other."""
    found = []
    for number in range(count):
        obs_id = f"o{time.monotonic_ns()}-{number}"
        # Idle: what follows the last request has been done.
        await asyncio.sleep(IDLE_S)
        maker.arrived.clear()
        began = time.perf_counter()
        await publish(obs_id)
        async with asyncio.timeout(30):
            while obs_id not in maker.asked:
                await maker.arrived.wait()
                maker.arrived.clear()
        found.append(maker.asked[obs_id] - began)
    return found


class BareLoop:
    """nats-py, one SQLite commit and an HTTP request, and nothing else."""

    def __init__(self, folder: Path, url: str) -> None:
        self._database = sqlite3.connect(folder / "bare.db", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("CREATE TABLE heard (obs_id TEXT PRIMARY KEY, product TEXT)")
        self._client = httpx.AsyncClient(trust_env=False)
        self._url = url

    async def hear(self, message: Msg) -> None:
        """Do it for one message."""
        news = json.loads(message.data)
        self._database.execute("BEGIN IMMEDIATE")
        self._database.execute("INSERT INTO heard VALUES (?, 'B')", (news["obs_id"],))
        self._database.execute("COMMIT")
        await message.ack()
        body = {"product": "B", "obs_id": news["obs_id"], "processing_id": news["obs_id"]}
        await self._client.post(f"{self._url}/pipeline/processing", json=body)


async def measure_latency(count: int, folder: Path, nats_url: str) -> None:
    """Print the time from a notification to its request."""
    maker = Maker()
    async with serving(maker.app) as url, contextlib.AsyncExitStack() as stack:
        client = await nats.connect(nats_url)
        stack.push_async_callback(client.close)
        jetstream = client.jetstream()
        await jetstream.add_stream(name="BARE", subjects=["bare.*"])
        await jetstream.subscribe("bare.*", cb=BareLoop(folder, url).hear, manual_ack=True)
        sdb_url = await stack.enter_async_context(conducting(folder, nats_url, url))
        sdb = await stack.enter_async_context(httpx.AsyncClient(base_url=sdb_url, trust_env=False))

        async def publish(subject: str, obs_id: str) -> None:
            await client.publish(subject, json.dumps({"product": "A", "obs_id": obs_id}).encode())

        async def archive(product: str, obs_id: str) -> None:
            form = {"product": product, "obs_id": obs_id}
            answer = await sdb.post("/products", data=form, files={"file": ("a", b"a")})
            answer.raise_for_status()

        async def archive_only(obs_id: str) -> None:
            await archive("OTHER", obs_id)
            maker.asked[obs_id] = time.perf_counter()
            maker.arrived.set()

        kinds: dict[str, Callable[[str], Awaitable[None]]] = {
            "bare loop": partial(publish, "bare.x"),
            "conductor": partial(publish, "data.vhf"),
            "import alone": archive_only,
            "import to request": partial(archive, "A"),
        }
        rounds: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(5):
            for name, kind in kinds.items():
                rounds[name] += await latencies_s(kind, maker, count // 5)
    print(f"notification to request, {count} one after the other, idle otherwise")
    bare = quantiles_ms(rounds["bare loop"])
    for name, times in ((name, quantiles_ms(found)) for name, found in rounds.items()):
        ratios = ", ".join(f"{value / base:.2f}" for value, base in zip(times, bare, strict=True))
        print(f"  {name:<17} median {times[0]:6.2f} ms, 99 % {times[1]:6.2f} ms; ratios {ratios}")


def quantiles_ms(found: list[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    ordered = sorted(1000 * value for value in found)
    return statistics.median(ordered), ordered[int(0.99 * len(ordered))]


@contextlib.asynccontextmanager
async def conducting(folder: Path, nats_url: str, maker_url: str) -> AsyncIterator[str]:
    """A conductor, with an sdb to ask, in this event loop; yields the address of the sdb."""
    graph = folder / "graph.json"
    product = {**GRAPH["products"]["B"], "url": f"{maker_url}/pipeline"}
    graph.write_text(json.dumps({**GRAPH, "products": {"B": product}}))
    sdb_settings = SdbSettings(
        port=0,
        nats_url=nats_url,
        database_url=f"sqlite:///{folder / 'sdb.db'}",
        store_url=str(folder / "products"),
    )
    async with open_sdb(sdb_settings, "http://127.0.0.1:0") as sdb, serving(sdb.app) as sdb_url:
        settings = ConductorSettings(
            port=0,
            nats_url=nats_url,
            graph=graph,
            sdb_url=sdb_url,
            database_url=f"sqlite:///{folder / 'conductor.db'}",
            ask_after_s=3600,
        )
        async with open_conductor(settings, "http://127.0.0.1:0") as conductor:
            work = [asyncio.create_task(each.run()) for each in (conductor, sdb)]
            await asyncio.sleep(1)
            try:
                yield sdb_url
            finally:
                for each in work:
                    each.cancel()
                await asyncio.wait(work)


async def measure_rate(count: int, folder: Path, nats_url: str) -> None:
    """Print how many notifications a second are recorded, with what is claimed from them.

    Requests leave meanwhile, as in life.
    """
    maker = Maker()
    async with serving(maker.app) as url, contextlib.AsyncExitStack() as stack:
        # Its streams must be there before anything is published.
        bus = await stack.enter_async_context(connect(NatsConfig(url=nats_url), "bench"))
        payloads = [
            json.dumps({"product": "A", "obs_id": f"r{number}"}).encode() for number in range(count)
        ]
        for payload in payloads:
            await bus.client.publish("data.vhf", payload)
        await bus.client.flush()
        # NATS syncs each message: how fast it stores them is not what is measured.
        while (await bus.jetstream.stream_info("DATA")).state.messages < count:  # noqa: ASYNC110  the server's state
            await asyncio.sleep(0.05)
        began = time.perf_counter()
        await stack.enter_async_context(conducting(folder, nats_url, url))
        path = folder / "conductor.db"
        while rows(path) < count:  # noqa: ASYNC110  another process's state: nothing tells it
            await asyncio.sleep(0.05)
        took = time.perf_counter() - began
    print(f"{count} notifications waiting: {count / took:.0f} a second heard, recorded and claimed")


def rows(path: Path) -> int:
    """How many processings are recorded."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        found: int = database.execute("SELECT count(*) FROM conductor_processings").fetchone()[0]
        return found


@contextlib.contextmanager
def nats_server(folder: Path) -> Iterator[str]:
    """A NATS server of its own."""
    with listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
    command = server_command(folder / "nats", port, name="bench")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        while not asyncio.run(server_answers("127.0.0.1", port, "bench")):
            time.sleep(0.05)
        try:
            yield f"nats://127.0.0.1:{port}"
        finally:
            server.terminate()


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latencies", type=int, default=500)
    parser.add_argument("--notifications", type=int, default=20_000)
    wanted = parser.parse_args()
    for measure, count in (
        (measure_latency, wanted.latencies),
        (measure_rate, wanted.notifications),
    ):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with nats_server(folder) as url:
                asyncio.run(measure(count, folder, url))


if __name__ == "__main__":
    main()
