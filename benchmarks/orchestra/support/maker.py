"""A pipeline that costs as little as one can: it answers at once, and imports if it has an sdb.

Run with ``SDB_URL``, it serves every provider below its address, imports a few bytes as the product
of each request, and never reports: the announcement of the sdb is what the conductor hears.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from aiohttp import web

BOUNDARY: Final = "-----------bench"
IMPORTS_AT_ONCE: Final = 64

Asked = Callable[[str, str], None]
"""Called with the product and the observation of each request."""


def form(fields: dict[str, str], content: bytes) -> bytes:
    """Return the body of an import."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    head = 'Content-Disposition: form-data; name="file"; filename="a"'
    start = f"{''.join(parts)}--{BOUNDARY}\r\n{head}\r\n\r\n".encode()
    return start + content + f"\r\n--{BOUNDARY}--\r\n".encode()


class Importer:
    """Imports products into an sdb."""

    def __init__(self, session: aiohttp.ClientSession, sdb_url: str) -> None:
        self._session = session
        self._url = f"{sdb_url}/products"
        self._slots = asyncio.Semaphore(IMPORTS_AT_ONCE)

    async def add(self, **fields: str) -> None:
        """Import a few bytes."""
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        body = form(fields, f"{fields['product']} of {fields['obs_id']}".encode())
        async with (
            self._slots,
            self._session.post(self._url, data=body, headers=headers) as answer,
        ):
            if answer.status >= 400:
                raise RuntimeError(f"{answer.status}: {await answer.text()}")


class Maker:
    """Answers requests; `importer` makes their products."""

    def __init__(self, asked: Asked, importer: Importer | None = None) -> None:
        self._asked = asked
        self._importer = importer
        self._running: set[asyncio.Task[None]] = set()

    async def request(self, request: web.Request) -> web.Response:
        """Answer a request for a product."""
        body = json.loads(await request.read())
        self._asked(body["product"], body["obs_id"])
        if self._importer is not None:
            work = self._importer.add(
                product=body["product"],
                obs_id=body["obs_id"],
                processing_id=body["processing_id"],
                provider=request.match_info["provider"],
            )
            task = asyncio.create_task(work)
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return _running(body["processing_id"], body["product"], body["obs_id"])

    async def processing(self, request: web.Request) -> web.Response:
        """Say that it runs."""
        return _running(request.match_info["id"], "L1", "any")


def _running(processing_id: str, product: str, obs_id: str) -> web.Response:
    # With `attempt`, as pipelines of Batuta: connections to those that count them are reused.
    body = {
        "id": processing_id,
        "product": product,
        "obs_id": obs_id,
        "state": "running",
        "attempt": 1,
    }
    return web.Response(body=json.dumps(body).encode(), content_type="application/json", status=202)


@asynccontextmanager
async def serving(maker: Maker) -> AsyncIterator[str]:
    """Serve `maker` in this event loop; yield its address."""
    app = web.Application()
    app.router.add_post("/{provider}/processing", maker.request)
    app.router.add_get("/{provider}/processing/{id}", maker.processing)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


class Arrivals:
    """When each observation's request came, in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        self._came = asyncio.Event()

    def note(self, _product: str, obs_id: str) -> None:
        """Note a request."""
        self.at.setdefault(obs_id, time.perf_counter())
        self._came.set()

    async def wait_for(self, obs_id: str, timeout_s: float = 30) -> float:
        """Return when the request of an observation came."""
        async with asyncio.timeout(timeout_s):
            while obs_id not in self.at:
                self._came.clear()
                await self._came.wait()
        return self.at[obs_id]

    async def wait_for_count(self, count: int, timeout_s: float = 120) -> None:
        """Return once `count` observations have been asked for."""
        async with asyncio.timeout(timeout_s):
            while len(self.at) < count:
                self._came.clear()
                await self._came.wait()


async def _serve(sdb_url: str) -> None:
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IMPORTS_AT_ONCE)) as session,
        serving(Maker(lambda _product, _obs_id: None, Importer(session, sdb_url))) as url,
    ):
        print(f"makers listening on {url}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
