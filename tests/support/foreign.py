"""Pipelines that others wrote: each knows the request, and as much of the rest as its kind does."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from batuta.service.settings import ServiceSettings

Archive = Callable[[str, str, str | None], None]
"""Imports a product of an observation, under an id or none."""

FAILS = 5
"""Every so many-th processing of a kind fails: the third, the eighth, ..."""

KINDS = ("own_ids", "key", "silent", "strict", "calls_back")


class ForeignPipelines:
    """One pipeline of each kind, below ``/<kind>``.

    ``own_ids`` ignores the id that it is sent, and imports under its own; ``key`` takes it for an
    idempotency key; ``silent`` answers nothing and tells no state; ``strict`` refuses other keys
    than the two, answers by a list and a location, and spells states as others do; ``calls_back``
    is told where.

    Attributes
    ----------
    archive : callable
        Imports a product.
    started : Counter
        Processings that a kind has started.
    failed : Counter
        Those of them that failed.
    """

    def __init__(self) -> None:
        self.app = FastAPI()
        self.archive: Archive = lambda _product, _obs_id, _id: None
        self.started: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self._states: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._work: set[asyncio.Task[None]] = set()
        self._add_own_ids(self.app)
        self._add_key(self.app)
        self._add_strict(self.app)
        self._add_followed_otherwise(self.app)

    @asynccontextmanager
    async def open(
        self, _settings: ServiceSettings, _url: str
    ) -> AsyncIterator["ForeignPipelines"]:
        """Open them as a service."""
        yield self

    async def run(self) -> None:
        """Run until cancelled; the routes do the work."""
        await asyncio.Event().wait()

    def _add_own_ids(self, app: FastAPI) -> None:
        @app.post("/own_ids/processing", status_code=201)
        async def own_ids(request: Request) -> dict[str, Any]:
            job = str(next(self._numbers))
            self._start("own_ids", await request.json(), job, job)
            return {"job": {"jobID": int(job), "status": "accepted", "attempt": 1}}

        @app.get("/own_ids/processing/{job}", response_model=None)
        def own_state(job: str) -> dict[str, Any] | JSONResponse:
            self.asked["own_ids"] += 1
            return self._told(job) or JSONResponse({"detail": "no such job"}, 404)

    def _add_key(self, app: FastAPI) -> None:
        @app.post("/key/processing", status_code=200)
        async def key(request: Request) -> dict[str, Any] | None:
            body = await request.json()
            job = body["processing_id"]
            if job not in self._states:
                self._start("key", body, job, job)
            return self._told(job)

        @app.get("/key/processing/{job}", response_model=None)
        def key_state(job: str) -> dict[str, Any] | JSONResponse:
            return self._told(job) or JSONResponse({"detail": "unknown key"}, 404)

    def _add_strict(self, app: FastAPI) -> None:
        @app.post("/strict/processing", response_model=None)
        async def strict(request: Request) -> Response:
            body = await request.json()
            if body.keys() != {"product", "obs_id"}:
                return JSONResponse({"detail": "unknown keys"}, 422)
            job = str(next(self._numbers))
            self._start("strict", body, job, None)
            return JSONResponse(["accepted"], 202, {"Location": f"/strict/jobs/{job}"})

        @app.get("/strict/jobs/{job}", response_model=None)
        def strict_state(job: str) -> list[Any] | JSONResponse:
            spelt = {"running": "EXECUTING", "succeeded": "COMPLETED", "failed": "ERROR"}
            if job not in self._states:
                return JSONResponse([], 404)
            return [{"phase": spelt[self._states[job]]}]

    def _add_followed_otherwise(self, app: FastAPI) -> None:
        @app.post("/silent/processing", status_code=204)
        async def silent(request: Request) -> None:
            self._start("silent", await request.json(), str(next(self._numbers)), None)

        @app.post("/calls_back/processing")
        async def calls_back(request: Request) -> str:
            body = await request.json()
            job = str(next(self._numbers))
            self._start("calls_back", body, job, None, body["subscriber"])
            return "ok"

    def _told(self, job: str) -> dict[str, Any] | None:
        state = self._states.get(job)
        return None if state is None else {"id": job, "status": state}

    def _start(
        self,
        kind: str,
        body: dict[str, Any],
        job: str,
        import_as: str | None,
        subscriber: dict[str, str] | None = None,
    ) -> None:
        self.started[kind] += 1
        fails = self.started[kind] % FAILS == 3
        self.failed[kind] += fails
        self._states[job] = "running"
        work = asyncio.create_task(self._make(body, job, import_as, subscriber, fails=fails))
        self._work.add(work)
        work.add_done_callback(self._work.discard)

    async def _make(
        self,
        body: dict[str, Any],
        job: str,
        import_as: str | None,
        subscriber: dict[str, str] | None,
        *,
        fails: bool,
    ) -> None:
        if not fails:
            await asyncio.to_thread(self.archive, body["product"], body["obs_id"], import_as)
        self._states[job] = "failed" if fails else "succeeded"
        if subscriber is not None:
            uri = subscriber["failedUri" if fails else "successUri"]
            async with httpx.AsyncClient() as client:
                # The conductor may have been killed: such a pipeline does not call twice.
                try:
                    await client.post(uri, json={"status": self._states[job]})
                except httpx.HTTPError:
                    return
