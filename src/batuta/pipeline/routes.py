"""The REST interface of a pipeline, the same for all pipelines."""

import asyncio
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.routing import APIRoute
from pydantic import ValidationError

from batuta.messaging import ProcessingState
from batuta.pipeline.attempt_logs import find_attempts
from batuta.pipeline.messages import PipelineProcessing, ProcessingRequest
from batuta.pipeline.profile_routes import ProfileRoutes
from batuta.pipeline.retention import RetentionFolder
from batuta.pipeline.scheduler import ProcessingScheduler
from batuta.pipeline.store import ProcessingFilter, ProcessingStore, StoredProcessing
from batuta.pipeline.tile_board import TileBoards, TilesReport
from batuta.pipeline.worker_logs import WorkerLog, joined, open_worker_logs
from batuta.service.database import DatabaseError
from batuta.service.log_files import read_chunks
from batuta.service.pagination import Page
from batuta.service.problems import ProblemError, problem_response, problem_responses
from batuta.service.routing import ServiceRouter, add_routers

MAX_PAGE: Final = 1000
MAX_BODY_BYTES: Final = 65_536


class ProcessingRoutes:
    """The routes of processings.

    Parameters
    ----------
    scheduler, store
        What runs processings, and where they are recorded.
    root_path : str
        What the paths start with.
    retention : RetentionFolder or None
        Where logs and profiles are; None where none are retained.
    tiles : TileBoards or None
        What is known of tiles; None where processings have none.
    """

    def __init__(
        self,
        scheduler: ProcessingScheduler,
        store: ProcessingStore,
        root_path: str,
        retention: RetentionFolder | None,
        tiles: TileBoards | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._store = store
        self._root = root_path
        self._retention = retention
        self._tiles = tiles

    def add_to(self, app: FastAPI) -> None:
        """Serve under the root path, and health and metrics there too."""
        router = ServiceRouter(prefix=f"{self._root}/processing", tags=["processing"])
        router.add_api_route(
            "",
            self.submit,
            methods=["POST"],
            status_code=HTTPStatus.ACCEPTED,
            responses={
                200: {"model": PipelineProcessing},
                **_NOT_FOUND,
                **problem_responses(
                    HTTPStatus.CONFLICT,
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    HTTPStatus.TOO_MANY_REQUESTS,
                ),
            },
            openapi_extra=_REQUEST_BODY,
        )
        router.add_api_route("", self.list_page, methods=["GET"])
        router.add_api_route("/{processing_id}", self.get, methods=["GET"], responses=_NOT_FOUND)
        router.add_api_route(
            "/{processing_id}", self.cancel, methods=["DELETE"], responses=_NOT_FOUND
        )
        router.add_api_route(
            "/{processing_id}/log",
            self.log,
            methods=["GET"],
            response_class=PlainTextResponse,
            responses=_NOT_FOUND,
        )
        router.add_api_route(
            "/{processing_id}/workers_log",
            self.workers_log,
            methods=["GET"],
            response_class=PlainTextResponse,
            responses=_NOT_FOUND,
        )
        router.add_api_route(
            "/{processing_id}/tiles",
            self.tiles,
            methods=["GET"],
            response_model=TilesReport,
            responses=_NOT_FOUND,
        )
        ProfileRoutes(self._find, self._retention).add_to(router)
        app.add_exception_handler(DatabaseError, _on_database_error)
        common = [route for route in app.routes if isinstance(route, APIRoute)]
        add_routers(app, router)
        for route in common:
            if self._root:
                app.add_api_route(
                    self._root + route.path,
                    route.endpoint,
                    methods=sorted(route.methods or ()),
                    include_in_schema=False,
                )

    async def submit(self, request: Request, response: Response) -> PipelineProcessing:
        """Request a product of an observation.

        Answers at once: 202 with the record of the processing that will make it; 200 with the
        existing record if this `processing_id` was requested before. One that
        failed or was cancelled is restarted by a higher `attempt`.
        """
        record, started = await self._scheduler.submit(await _parse_request(request))
        response.status_code = HTTPStatus.ACCEPTED if started else HTTPStatus.OK
        response.headers["Location"] = str(request.url_for("get", processing_id=record.id))
        return self.with_links(record)

    async def list_page(
        self,
        state: ProcessingState | None = None,
        product: str | None = None,
        obs_id: str | None = None,
        cursor: Annotated[
            int | None, Query(ge=0, lt=2**63, description="`next` of the page before")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    ) -> Page[PipelineProcessing]:
        """List processings, the newest first."""
        records, following = await self._store.list_page(
            ProcessingFilter(
                state=state, product=product, obs_id=obs_id, before=cursor, limit=limit
            )
        )
        items = [self.with_links(self._scheduler.current(record)) for record in records]
        return Page(items=items, next=None if following is None else str(following))

    async def get(self, processing_id: str) -> PipelineProcessing:
        """Return the record of a processing."""
        stored = await self._find(processing_id)
        return self.with_links(self._scheduler.current(stored.record))

    async def cancel(
        self,
        processing_id: str,
        attempt: Annotated[
            int | None,
            Query(ge=1, lt=2**31, description="Only if it is at no later attempt by now."),
        ] = None,
    ) -> PipelineProcessing:
        """Cancel a processing, killing all its processes; an ended one stays as it is."""
        record = await self._scheduler.cancel(processing_id, attempt)
        if record is None:
            raise _not_found(processing_id)
        return self.with_links(record)

    async def log(
        self,
        processing_id: str,
        tail: Annotated[
            int | None, Query(ge=1, description="Only so many bytes, the last ones.")
        ] = None,
        since: Annotated[
            int,
            Query(ge=0, lt=2**63, description="Only from this byte on; all, if it has fewer."),
        ] = 0,
        attempt: Annotated[
            int | None, Query(ge=1, lt=2**31, description="Only that of this attempt.")
        ] = None,
    ) -> Response:
        """Return the log of a processing so far, with its standard output and error."""
        stored = await self._find(processing_id)
        if self._retention is None or not stored.log_kept:
            raise ProblemError(
                HTTPStatus.NOT_FOUND,
                f"processing {processing_id!r}: no log (removed, or never written)",
            )
        path = self._retention.log(stored.key)
        try:
            size = (await asyncio.to_thread(path.stat)).st_size
        except FileNotFoundError:
            return PlainTextResponse("")
        # To the end that it has now: it may grow while it is sent.
        # A log that is smaller than it was has been cut, or begun again.
        start, end = (since if since <= size else 0), size
        headers = {"X-Log-Bytes": str(size)}
        if attempt is not None:
            record = stored.record
            parts = await asyncio.to_thread(find_attempts, path, record.product, record.obs_id)
            if attempt not in parts:
                known = ", ".join(map(str, parts)) or "none"
                raise ProblemError(
                    HTTPStatus.NOT_FOUND,
                    f"processing {processing_id!r}: no log of attempt {attempt} (it has: {known})",
                )
            first, end = parts[attempt]
            start = max(start, first)
            headers["X-Log-Attempt"] = str(attempt)
        if tail is not None:
            start = max(start, end - tail)
        start = min(start, end)
        return StreamingResponse(
            read_chunks(path, start, end),
            media_type=PlainTextResponse.media_type,
            headers={"Content-Length": str(end - start), **headers},
        )

    async def workers_log(self, processing_id: str) -> Response:
        """Return the logs of the workers that computed its tiles, so far; one after the other."""
        stored = await self._find(processing_id)
        logs: list[WorkerLog] = []
        if self._retention is not None:
            run = stored.current_run.run_id
            logs = await asyncio.to_thread(open_worker_logs, self._retention, run)
        if not logs:
            raise ProblemError(
                HTTPStatus.NOT_FOUND,
                f"processing {processing_id!r}: no workers' logs (it has opened no orchestrator "
                "with workers, or they were removed)",
            )
        return StreamingResponse(joined(logs), media_type=PlainTextResponse.media_type)

    async def tiles(
        self,
        processing_id: str,
        since: Annotated[
            int | None,
            Query(ge=0, lt=2**63, description="`seq` of an earlier answer: only what changed."),
        ] = None,
    ) -> Response:
        """Return what is known of each tile: where it lies, its state, worker, time and memory."""
        stored = await self._find(processing_id)
        report = None
        if self._tiles is not None:
            report = self._tiles.live_report(stored.key, since)
            if report is None:
                report = await asyncio.to_thread(self._tiles.recorded_report, stored.key, since)
        if report is None:
            raise ProblemError(
                HTTPStatus.NOT_FOUND,
                f"processing {processing_id!r}: no tiles (it has opened no orchestrator, or what "
                "was recorded of them was removed)",
            )
        content = report.model_dump_json(exclude_none=True)
        return Response(content, media_type="application/json")

    def with_links(self, record: PipelineProcessing) -> PipelineProcessing:
        """Return a record with the paths of its log and profile."""
        if self._retention is None:
            return record
        log = f"{self._root}/processing/{record.id}/log"
        profile = record.profile and f"{self._root}{record.profile}"
        return record.model_copy(update={"log": log, "profile": profile})

    async def _find(self, processing_id: str) -> StoredProcessing:
        stored = await self._store.find(processing_id)
        if stored is None:
            raise _not_found(processing_id)
        return stored


_NOT_FOUND: Final = problem_responses(HTTPStatus.NOT_FOUND)

_REQUEST_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": ProcessingRequest.model_json_schema()}},
    }
}


async def _parse_request(request: Request) -> ProcessingRequest:
    """Parse the body as JSON whatever its Content-Type: ``curl -d`` sends a form's."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"body: more than {MAX_BODY_BYTES} bytes"
            )
    try:
        return ProcessingRequest.model_validate_json(bytes(body))
    except ValidationError as exc:
        raise RequestValidationError(exc.errors(include_url=False)) from exc


async def _on_database_error(_request: Request, exc: Exception) -> Response:
    return problem_response(HTTPStatus.SERVICE_UNAVAILABLE, str(exc), {"Retry-After": "1"})


def _not_found(processing_id: str) -> ProblemError:
    # `attempt` tells the conductor that ids are kept here: the request has not arrived.
    return ProblemError(HTTPStatus.NOT_FOUND, f"processing {processing_id!r}: not found", attempt=0)
