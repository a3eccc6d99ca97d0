"""Talking to the pipelines: request, ask, cancel (seed 003: a uniform REST interface)."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import httpx
from pydantic import ValidationError

from batuta.conductor.ledger import News, Request
from batuta.messaging import Processing, ProcessingState
from batuta.messaging.processings import AT_PIPELINE
from batuta.service.client import ServiceError, auth_headers, check_response, translate_errors

TIMEOUT: Final = httpx.Timeout(15.0, connect=3.0, pool=None)
MAX_CONNECTIONS: Final = 32
BUSY_WAIT_MOST_S: Final = 300.0
"""Longest wait that a pipeline may ask for."""
MAX_ERROR: Final = 2000
"""Characters of an error that are kept: more would not fit in an event."""
BUSY_WAIT_S: Final = 5.0
"""Wait before asking again a pipeline that is full and does not say when."""


class Providers:
    """The pipelines of a graph, over REST; made by `open_providers`."""

    def __init__(self, client: httpx.AsyncClient, url_of: Callable[[str], str]) -> None:
        self._client = client
        self._url_of = url_of

    async def request(self, request: Request) -> News:
        """Ask for a processing; what comes back says what became of the request."""
        body = {
            "product": request.product,
            "obs_id": request.obs_id,
            "processing_id": request.processing_id,
            "attempt": request.attempt,
        }
        try:
            url = self._processing_url(request.provider)
            answer = await self._call("POST", request.provider, url, body)
            return news_of(answer, request.processing_id)
        except ServiceError as exc:
            return _news_of_error(exc, request.processing_id)

    async def ask(self, provider: str, processing_id: str) -> Processing:
        """Ask how a processing is.

        Raises
        ------
        ServiceError
            If the pipeline cannot be reached, or does not know it (status 404).
        """
        url = f"{self._processing_url(provider)}/{processing_id}"
        return await self._call("GET", provider, url)

    async def cancel(self, provider: str, processing_id: str) -> Processing:
        """Have a processing stopped.

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
        with translate_errors(provider, url):
            response = check_response(provider, await self._client.request(method, url, json=body))
        try:
            answer = Processing.model_validate_json(response.content)
        except ValidationError as exc:
            raise ServiceError(
                f"{provider}: what {method} {url} answered is not a processing: "
                f"{response.text[:200]!r}"
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
    """Open the connections to the pipelines; `url_of` gives a provider's address."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=MAX_CONNECTIONS)
    async with httpx.AsyncClient(
        timeout=TIMEOUT, limits=limits, headers=auth_headers(token), trust_env=False
    ) as client:
        yield Providers(client, url_of)


def news_of(answer: Processing, processing_id: str) -> News:
    """What a pipeline's answer about `processing_id` says."""
    return News(
        processing_id=processing_id,
        state=answer.state,
        done=answer.progress.done,
        total=answer.progress.total,
        error=answer.error[:MAX_ERROR] if answer.error else None,
        started=answer.started.timestamp() if answer.started else None,
        answered_attempt=answer.attempt,
        profiled=answer.profile is not None,
    )


def _news_of_error(exc: ServiceError, processing_id: str) -> News:
    if exc.status in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE):
        wait_s = BUSY_WAIT_S if exc.retry_after_s is None else exc.retry_after_s
        return News(
            processing_id=processing_id,
            state=ProcessingState.WAITING,
            error=str(exc),
            wait_s=min(wait_s, BUSY_WAIT_MOST_S),
        )
    return News(
        processing_id=processing_id,
        state=ProcessingState.FAILED,
        error=str(exc),
        final=exc.refused,
    )
