"""The pipeline of Batuta: a service of two routes, which archives what it makes in the sdb.

``python -m benchmarks.orchestra_peers.workers.batuta_pipeline PORT SDB_URL``
"""

import asyncio
import sys
from typing import Any

import aiohttp
from aiohttp import web

from benchmarks.orchestra.support.maker import BOUNDARY, IMPORTS_AT_ONCE, form
from benchmarks.orchestra_peers.processes import LOOPBACK
from benchmarks.orchestra_peers.step import Reporter, content_of


class Pipeline:
    """Answers at once, then makes the product and imports it."""

    def __init__(self, sdb: str) -> None:
        self._url = f"{sdb}/products"
        self._reporter = Reporter()
        self._states: dict[str, dict[str, Any]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._sdb = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=IMPORTS_AT_ONCE),
            headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
        )

    async def request(self, request: web.Request) -> web.Response:
        """Start a processing; one that is known is answered as it is."""
        body = await request.json()
        processing_id = body["processing_id"]
        if processing_id not in self._states:
            self._states[processing_id] = {
                "id": processing_id,
                "product": body["product"],
                "obs_id": body["obs_id"],
                "state": "running",
                "attempt": 1,
            }
            task = asyncio.create_task(self._make(self._states[processing_id]))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return web.json_response(self._states[processing_id], status=202)

    async def state(self, request: web.Request) -> web.Response:
        """Return the state of a processing."""
        found = self._states.get(request.match_info["id"])
        return web.json_response(found or {}, status=200 if found else 404)

    async def _make(self, processing: dict[str, Any]) -> None:
        product, obs_id = processing["product"], processing["obs_id"]
        self._reporter.report("begun", product, obs_id)
        fields = {"product": product, "obs_id": obs_id, "processing_id": processing["id"]}
        body = form(fields, content_of(product, obs_id))
        async with self._sdb.post(self._url, data=body, raise_for_status=True) as answer:
            await answer.read()
        processing["state"] = "succeeded"
        self._reporter.report("made", product, obs_id)


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _application(sdb: str) -> web.Application:
    pipeline = Pipeline(sdb)
    application = web.Application()
    application.add_routes(
        [
            web.get("/health", _health),
            web.post("/pipeline/processing", pipeline.request),
            web.get("/pipeline/processing/{id}", pipeline.state),
        ]
    )
    return application


if __name__ == "__main__":
    web.run_app(
        _application(sys.argv[2]),
        host=LOOPBACK,
        port=int(sys.argv[1]),
        access_log=None,
        shutdown_timeout=1,
    )
