"""A pipeline whose answers a test scripts; it counts attempts, as those of Batuta do."""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

from batuta.service.settings import ServiceSettings


class ScriptedPipeline:
    """Answers ``/pipeline/processing`` and records the requests.

    Attributes
    ----------
    archive : callable
        Archives the product of a processing, before it is reported to have succeeded.
    outcomes : dict
        States that the next processings of a product end in, ``succeeded`` by default.
        ``unarchived`` is a success that archives nothing.
    logs : dict
        The log of each processing that has one.
    tiles : dict
        What is told of the tiles of each processing that has some.
    answers : deque
        Responses to the next requests, in place of a processing.
    cancel_answers : deque
        Responses to the next cancellations, which cancel nothing.
    """

    def __init__(self) -> None:
        self.archive: Callable[[dict[str, Any]], object] = lambda _processing: None
        self.app = FastAPI()
        self.requests: list[dict[str, Any]] = []
        self.processings: dict[str, dict[str, Any]] = {}
        self.outcomes: defaultdict[str, deque[str]] = defaultdict(deque)
        self.answers: deque[JSONResponse] = deque()
        self.logs: dict[str, bytes] = {}
        self.tiles: dict[str, dict[str, Any]] = {}
        self.asked = 0
        self.cancelled: list[str] = []
        self.cancel_answers: deque[JSONResponse] = deque()
        self._add_routes()

    @asynccontextmanager
    async def open(
        self, _settings: ServiceSettings, _url: str
    ) -> AsyncIterator["ScriptedPipeline"]:
        """Open it as a service."""
        yield self

    async def run(self) -> None:
        """Run until cancelled; the routes do the work."""
        await asyncio.Event().wait()

    def end(self, processing_id: str, state: str) -> None:
        """End a running processing in `state`."""
        processing = self.processings[processing_id]
        if state == "succeeded":
            self.archive(processing)
        processing["state"] = state

    def _add_routes(self) -> None:
        app, known = self.app, self.processings

        @app.post("/pipeline/processing", status_code=202, response_model=None)
        def request(body: dict[str, Any]) -> dict[str, Any] | JSONResponse:
            self.requests.append(body)
            if self.answers:
                return self.answers.popleft()
            known[body["processing_id"]] = self._new(body)
            return known[body["processing_id"]]

        @app.get("/pipeline/processing/{processing_id}", response_model=None)
        def ask(processing_id: str) -> dict[str, Any] | JSONResponse:
            self.asked += 1
            found = known.get(processing_id)
            return found or JSONResponse({"detail": "not found", "attempt": 0}, 404)

        @app.get("/pipeline/processing/{processing_id}/log", response_model=None)
        def log(processing_id: str) -> Response:
            found = self.logs.get(processing_id)
            return Response("no", 404) if found is None else Response(found)

        @app.get("/pipeline/processing/{processing_id}/tiles", response_model=None)
        def tiles(processing_id: str, since: int | None = None) -> Response:
            told = self.tiles.get(processing_id)
            return Response("no", 404) if told is None else JSONResponse(told | {"since": since})

        @app.delete("/pipeline/processing/{processing_id}", response_model=None)
        def cancel(processing_id: str) -> dict[str, Any] | JSONResponse:
            if self.cancel_answers:
                return self.cancel_answers.popleft()
            self.cancelled.append(processing_id)
            if processing_id not in known:
                return JSONResponse({"detail": "not found", "attempt": 0}, 404)
            known[processing_id]["state"] = "cancelled"
            return known[processing_id]

    def _new(self, body: dict[str, Any]) -> dict[str, Any]:
        outcomes = self.outcomes[body["product"]]
        outcome = outcomes.popleft() if outcomes else "succeeded"
        processing = {
            "id": body["processing_id"],
            "product": body["product"],
            "obs_id": body["obs_id"],
            "attempt": body.get("attempt", 1),
            "state": "succeeded" if outcome == "unarchived" else outcome,
            "error": "scripted" if outcome == "failed" else None,
        }
        if outcome == "succeeded":
            self.archive(processing)
        return processing
