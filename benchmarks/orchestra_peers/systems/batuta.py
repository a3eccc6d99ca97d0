"""Batuta: ``batuta up`` with the settings that it has by default, and a pipeline beside it."""

import importlib.metadata
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import aiohttp
import nats

from benchmarks.orchestra_peers.ledger import Key
from benchmarks.orchestra_peers.processes import LOOPBACK, free_ports, running, worker_command
from benchmarks.orchestra_peers.step import INPUT, LEVELS
from benchmarks.orchestra_peers.systems import http
from benchmarks.orchestra_peers.systems.contract import Place, Started, System


def _graph(pipeline: str) -> dict[str, object]:
    inputs = (INPUT, *LEVELS)
    return {
        "inputs": [INPUT],
        "products": {
            product: {"m_input": [made_from], "o_input": [], "provider": "bench", "url": pipeline}
            for made_from, product in zip(inputs, LEVELS, strict=False)
        },
    }


@asynccontextmanager
async def _start(place: Place) -> AsyncIterator[Started]:
    nats_port, sdb_port, conductor_port, pipeline_port = free_ports(4)
    sdb, conductor, pipeline = (
        f"http://{LOOPBACK}:{port}" for port in (sdb_port, conductor_port, pipeline_port)
    )
    (place.folder / "graph.json").write_text(json.dumps(_graph(f"{pipeline}/pipeline")))
    config = {
        "data_dir": "data",
        "nats_port": nats_port,
        "sdb": {"port": sdb_port},
        "conductor": {"port": conductor_port, "graph": "graph.json"},
    }
    (place.folder / "batuta.json").write_text(json.dumps(config))
    up = [sys.executable, "-m", "batuta", "up", str(place.folder / "batuta.json")]
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(http.client())
        worker = await stack.enter_async_context(
            running(
                worker_command("batuta_pipeline", str(pipeline_port), sdb),
                place.folder / "pipeline.log",
                place.environment,
            )
        )
        await worker.until(partial(http.answers, client, f"{pipeline}/health"))
        orchestra = await stack.enter_async_context(
            running(up, place.folder / "batuta.log", place.environment)
        )
        await orchestra.until(partial(http.answers, client, f"{conductor}/health"))
        connection = await nats.connect(f"nats://{LOOPBACK}:{nats_port}")
        stack.push_async_callback(connection.close)
        jetstream = connection.jetstream(timeout=60)

        async def announce(obs_id: str) -> None:
            news = {"product": INPUT, "obs_id": obs_id}
            await jetstream.publish("data.bench", json.dumps(news).encode())

        yield Started(announce, partial(_archived, client, sdb))


async def _archived(client: aiohttp.ClientSession, sdb: str) -> set[Key]:
    """Return what the sdb holds; a second version of a product is an error."""
    found: set[Key] = set()
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": "500", **({"cursor": cursor} if cursor else {})}
        async with client.get(f"{sdb}/products", params=query, raise_for_status=True) as answer:
            page = await answer.json()
        for record in page["items"]:
            key = record["product"], record["obs_id"]
            if record["version"] != 1:
                raise RuntimeError(f"{key} was archived {record['version']} times")
            found.add(key)
        cursor = page["next"]
    return found


SYSTEM = System(
    name="Batuta",
    version=partial(importlib.metadata.version, "batuta"),
    start=_start,
)
