"""REST routes of what pipelines keep of processings: their logs, and the states of their tiles."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Query
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.background import BackgroundTask

from batuta.conductor.database.views.observations import ConductorProcessing, Views
from batuta.errors import printable
from batuta.service.client import ServiceError
from batuta.service.http_pool import HttpPool, StreamedAnswer
from batuta.service.problems import ProblemError, problem_responses
from batuta.service.routing import ServiceRouter

MAX_LOG_BYTES: Final = 256 * 2**20
"""Of one answer: more is cut off, and said so."""
BYTES_HEADER: Final = "X-Log-Bytes"
ATTEMPT_HEADER: Final = "X-Log-Attempt"
_KEEPS_NONE: Final = frozenset({404, 405, 410, 501})

_PROBLEMS: Final = problem_responses(HTTPStatus.NOT_FOUND, HTTPStatus.BAD_GATEWAY)


def log_router(views: Views, pool: HttpPool) -> ServiceRouter:
    """Return the routes."""
    router = ServiceRouter(prefix="/processings/{processing_id}", tags=["processings"])

    @router.get("/log", response_class=PlainTextResponse, responses=_PROBLEMS)
    async def log(
        processing_id: str,
        since: Annotated[int, Query(ge=0, lt=2**63, description="Only from this byte on.")] = 0,
        tail: Annotated[
            int | None, Query(ge=1, lt=2**63, description="Only so many bytes, the last ones.")
        ] = None,
        attempt: Annotated[
            int | None, Query(ge=1, lt=2**31, description="Only that of this attempt.")
        ] = None,
    ) -> StreamingResponse:
        """Return the log of a processing so far, from its pipeline.

        A pipeline that knows none of the parameters answers with all of it.
        """
        given = {"since": since or None, "tail": tail, "attempt": attempt}
        params = {name: value for name, value in given.items() if value is not None}
        return await _relay(views, pool, processing_id, "log", params)

    @router.get("/workers_log", response_class=PlainTextResponse, responses=_PROBLEMS)
    async def workers_log(processing_id: str) -> StreamingResponse:
        """Return the logs of the workers that computed its tiles, from its pipeline."""
        return await _relay(views, pool, processing_id, "workers_log", {})

    @router.get("/tiles", responses=_PROBLEMS)
    async def tiles(
        processing_id: str,
        since: Annotated[
            int | None,
            Query(ge=0, lt=2**63, description="`seq` of an earlier answer: only what changed."),
        ] = None,
    ) -> StreamingResponse:
        """Return what is known of each of its tiles, from its pipeline."""
        params = {} if since is None else {"since": since}
        return await _relay(views, pool, processing_id, "tiles", params)

    return router


async def _relay(
    views: Views, pool: HttpPool, processing_id: str, part: str, params: Mapping[str, int]
) -> StreamingResponse:
    processing = await asyncio.to_thread(views.processing, processing_id)
    if processing is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"processing {processing_id!r:.80}: not found")
    noun = "tiles" if part == "tiles" else "log"
    url = f"{_address(processing, noun).removesuffix('/log')}/{part}"
    stack = AsyncExitStack()
    try:
        answer = await stack.enter_async_context(pool.stream(processing.provider, url, params))
        _check_attempt(processing.provider, params, answer)
    except ServiceError as exc:
        await stack.aclose()
        raise _problem(processing.provider, url, exc, noun) from exc
    except BaseException:
        await stack.aclose()
        raise
    headers = {name: answer.headers[name] for name in _PASSED if name in answer.headers}
    return StreamingResponse(
        _bounded(answer, stack),
        media_type="application/json" if part == "tiles" else PlainTextResponse.media_type,
        headers=headers,
        # Besides the end of the iterator: one that was never begun has no end.
        background=BackgroundTask(stack.aclose),
    )


def _check_attempt(provider: str, params: Mapping[str, int], answer: StreamedAnswer) -> None:
    # One that does not know the parameter has answered with the log of all attempts.
    if "attempt" in params and ATTEMPT_HEADER not in answer.headers:
        raise ProblemError(
            HTTPStatus.NOT_FOUND,
            f"{provider}: keeps one log of all attempts (ask without --attempt)",
        )


_PLURALS: Final = {"log": "logs", "tiles": "tiles"}
_PASSED: Final = (BYTES_HEADER, ATTEMPT_HEADER)


async def _bounded(answer: StreamedAnswer, stack: AsyncExitStack) -> AsyncIterator[bytes]:
    left = MAX_LOG_BYTES
    try:
        async for chunk in answer.chunks:
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                yield b"\n[log cut off after %d bytes]\n" % MAX_LOG_BYTES
                return
    except ServiceError as exc:
        # Its beginning has been sent: what went wrong can only be told at its end.
        yield f"\n[{printable(str(exc))}]\n".encode()
    finally:
        await stack.aclose()


def _address(processing: ConductorProcessing, noun: str) -> str:
    about = f"{processing.product} of {processing.obs_id}: no {noun}: it is {processing.state}"
    if processing.requested is None:
        detail = f"{about}, and was not requested from {processing.provider}"
    elif processing.log is None:
        detail = f"{about}, and the graph no longer has its provider {processing.provider}"
    else:
        return processing.log
    raise ProblemError(HTTPStatus.NOT_FOUND, detail)


def _problem(provider: str, url: str, exc: ServiceError, noun: str) -> ProblemError:
    if exc.status in _KEEPS_NONE and not _explained(exc):
        return ProblemError(HTTPStatus.NOT_FOUND, f"{provider}: keeps no {_PLURALS[noun]} ({url})")
    if exc.status == HTTPStatus.NOT_FOUND:
        return ProblemError(HTTPStatus.NOT_FOUND, str(exc))
    return ProblemError(HTTPStatus.BAD_GATEWAY, str(exc))


def _explained(exc: ServiceError) -> bool:
    """Return whether an answer says what was not found, and not only that its path was not."""
    return b'"detail"' in exc.content and b'"detail":"Not Found"' not in exc.content
