"""The pipelines' REST interface, the same for all: request, query and cancel a processing."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

from pydantic import ValidationError
from pydantic_core import to_json

from batuta.conductor.due_requests import DueRequest
from batuta.conductor.events import (
    Busy,
    DeadlinePassed,
    Event,
    PipelineUnreachable,
    Refused,
    StatusUpdate,
    UnknownToPipeline,
)
from batuta.conductor.transitions import Poll, PollAction, ProcessingRecord
from batuta.messaging import Processing
from batuta.messaging.processings import AT_PIPELINE
from batuta.service.client import ServiceError, answered_text
from batuta.service.http_pool import HttpPool, PoolTimeouts, open_pool

TIMEOUTS: Final = PoolTimeouts(connect_s=3.0, read_s=15.0)
ANSWER_TIMEOUT_S: Final = 30.0
"""How long an answer may take in all, in seconds."""
MAX_ANSWER_BYTES: Final = 2**20
BUSY_WAIT_S: Final = 5.0
"""Wait before the next request to a busy pipeline that does not say when."""
MAX_BUSY_WAIT_S: Final = 300.0
"""Longest wait that a busy pipeline may ask for."""
MAX_ERROR_LENGTH: Final = 2000
"""Characters of an error that are recorded: more would not fit in an event."""


class Providers:
    """The pipelines of a graph, over REST; made by `open_providers`."""

    def __init__(self, pool: HttpPool, url_of: Callable[[str], str]) -> None:
        self._pool = pool
        self._url_of = url_of

    async def request(self, request: DueRequest) -> Event:
        """Request a processing; return what became of the request."""
        body: dict[str, object] = {
            "product": request.product,
            "obs_id": request.obs_id,
            "processing_id": request.processing_id,
            "attempt": request.attempt,
        }
        if request.remake:
            body["remake"] = True
        try:
            url = self._processing_url(request.provider)
            answer = await self._call("POST", request.provider, url, body)
            _check_id(request.provider, answer, request.processing_id)
        except ServiceError as exc:
            return _after_failed_request(request, exc)
        return _status(StatusUpdate, request.processing_id, request.attempt, answer)

    async def poll(self, poll: Poll) -> Event:
        """Ask about a processing, or have it stopped, as `poll` says; return the outcome."""
        record = poll.record
        stopping = poll.action is PollAction.STOP
        try:
            if stopping:
                answer = await self.cancel(record.provider, record.id)
            else:
                url = f"{self._processing_url(record.provider)}/{record.id}"
                answer = await self._call("GET", record.provider, url)
            _check_id(record.provider, answer, record.id)
        except ServiceError as exc:
            return _after_failed_poll(record, exc, overdue=stopping)
        kind = DeadlinePassed if stopping else StatusUpdate
        return _status(kind, record.id, record.attempt, answer)

    async def cancel(self, provider: str, processing_id: str) -> Processing:
        """Stop a processing.

        Raises
        ------
        ServiceError
            If the pipeline cannot be reached, or does not know it (status 404).
        """
        url = f"{self._processing_url(provider)}/{processing_id}"
        return await self._call("DELETE", provider, url)

    def _processing_url(self, provider: str) -> str:
        return f"{self._url_of(provider)}/processing"

    async def _call(
        self, method: str, provider: str, url: str, body: dict[str, object] | None = None
    ) -> Processing:
        response = await self._pool.send(
            provider,
            method,
            url,
            body=None if body is None else to_json(body),
            max_bytes=MAX_ANSWER_BYTES,
            max_s=ANSWER_TIMEOUT_S,
        )
        try:
            answer = Processing.model_validate_json(response.content)
        except ValidationError as exc:
            raise ServiceError(
                f"{provider}: {method} {url} answered something else than a processing: "
                f"{answered_text(response)!r}"
            ) from exc
        if answer.state not in AT_PIPELINE:
            raise ServiceError(
                f"{provider}: {method} {url} answered the state {answer.state!s} "
                f"(accepted: {', '.join(AT_PIPELINE)})"
            )
        return answer


@asynccontextmanager
async def open_providers(
    url_of: Callable[[str], str], token: str | None
) -> AsyncIterator[Providers]:
    """Open the connections to the pipelines; `url_of` returns a provider's address."""
    async with open_pool(token, TIMEOUTS) as pool:
        yield Providers(pool, url_of)


class WrongProcessingError(ServiceError):
    """A pipeline answers about another processing than it was asked for."""


def _check_id(provider: str, answer: Processing, processing_id: str) -> None:
    if answer.id != processing_id:
        raise WrongProcessingError(
            f"{provider}: asked about the processing {processing_id}, it answered about "
            f"{answer.id!r:.80} (accepted: the id that it is given)"
        )


def _status(
    kind: type[StatusUpdate], processing_id: str, asked_attempt: int, answer: Processing
) -> StatusUpdate:
    return kind(
        processing_id=processing_id,
        asked_attempt=asked_attempt,
        state=answer.state,
        attempt=answer.attempt,
        done=answer.progress.done,
        total=answer.progress.total,
        error=answer.error[:MAX_ERROR_LENGTH] if answer.error else None,
        started=answer.started.timestamp() if answer.started else None,
        profiled=answer.profile is not None,
        code=answer.code,
    )


def _after_failed_request(request: DueRequest, exc: ServiceError) -> Event:
    about, attempt = request.processing_id, request.attempt
    if exc.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        wait_s = BUSY_WAIT_S if exc.retry_after_s is None else exc.retry_after_s
        return Busy(
            processing_id=about,
            asked_attempt=attempt,
            error=str(exc),
            wait_s=min(wait_s, MAX_BUSY_WAIT_S),
        )
    # A request that is repeated to a pipeline that gives ids of its own starts one processing
    # more, which cannot be followed either.
    final = exc.refused or isinstance(exc, WrongProcessingError)
    kind = Refused if final else PipelineUnreachable
    return kind(processing_id=about, asked_attempt=attempt, error=str(exc))


def _after_failed_poll(record: ProcessingRecord, exc: ServiceError, *, overdue: bool) -> Event:
    if exc.status == HTTPStatus.NOT_FOUND:
        return UnknownToPipeline(
            processing_id=record.id, asked_attempt=record.attempt, polled_state=record.state
        )
    return PipelineUnreachable(
        processing_id=record.id, asked_attempt=record.attempt, error=str(exc), overdue=overdue
    )
