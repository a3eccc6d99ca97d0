"""Callbacks: addresses by which a pipeline tells how a processing is, in place of being polled.

They are those of OGC API Processes: a request carries a ``subscriber`` with a ``successUri``, an
``inProgressUri`` and a ``failedUri``. Each holds a token that only the conductor can make, for one
attempt at one processing: whoever cannot guess it cannot report, and it reports nothing else.
"""

import hashlib
import hmac
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from fastapi import Path, Request, Response

from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.decisions.answers import PipelineAnswer, read_answer
from batuta.conductor.decisions.events import Interface, StatusUpdate
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.conductor.dispatch.dispatcher import Dispatcher
from batuta.messaging import ProcessingState as State
from batuta.service.problems import ProblemError, problem_responses
from batuta.service.routing import ServiceRouter

PREFIX: Final = "/callbacks/"
MAX_BODY_BYTES: Final = 2**20
"""More of what a pipeline sends with a callback is not read."""

Subscriber = Mapping[str, str]
"""The addresses that a request carries, by the keys of OGC API Processes."""

URI_KEYS: Final = {
    "successUri": "success",
    "inProgressUri": "in-progress",
    "failedUri": "failed",
}


class CallbackAddresses:
    """Makes and checks the addresses of callbacks.

    Parameters
    ----------
    base_url : str
        Where pipelines reach the conductor.
    secret : str
        Of the conductor's database: addresses stay valid when the conductor is restarted, and
        for all conductors that share it.
    """

    def __init__(self, base_url: str, secret: str) -> None:
        self._base_url = base_url.rstrip("/")
        self._key = secret.encode()

    def subscriber(self, request: DueRequest) -> Subscriber:
        """Return the addresses for one attempt."""
        token = self._token(request.processing_id, request.attempt)
        start = f"{self._base_url}{PREFIX}{request.processing_id}/{request.attempt}/{token}"
        return {key: f"{start}/{part}" for key, part in URI_KEYS.items()}

    def accepts(self, processing_id: str, attempt: int, token: str) -> bool:
        """Return whether `token` was given out for that attempt."""
        expected = self._token(processing_id, attempt)
        # In constant time: how long it takes must not reveal how much of a guess is right.
        return hmac.compare_digest(expected.encode(), token.encode())

    def _token(self, processing_id: str, attempt: int) -> str:
        message = f"{processing_id}/{attempt}".encode()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()


def callback_router(addresses: CallbackAddresses, dispatcher: Dispatcher) -> ServiceRouter:
    """Route for callbacks."""
    router = ServiceRouter(tags=["callbacks"])

    @router.post(
        PREFIX + "{processing_id}/{attempt}/{token}/{what}",
        status_code=HTTPStatus.NO_CONTENT,
        responses=problem_responses(HTTPStatus.NOT_FOUND),
    )
    async def call_back(
        request: Request,
        processing_id: str,
        attempt: int,
        token: str,
        what: str = Path(description="`success`, `in-progress` or `failed`."),
    ) -> Response:
        """Report the state of a processing; it is recorded before the answer is sent.

        A success is believed if the sdb holds the product. The body may be a status document.
        """
        if what not in URI_KEYS.values() or not addresses.accepts(processing_id, attempt, token):
            raise ProblemError(HTTPStatus.NOT_FOUND, "callback: not an address that was given out")
        answer = read_answer(await _start_of(request))
        # None where it has succeeded, or was forgotten: there is nothing left to tell.
        for record in await dispatcher.write(dispatcher.ledger.unsettled, [processing_id]):
            await dispatcher.apply([_update(record, attempt, what, answer)])
        return Response(status_code=HTTPStatus.NO_CONTENT)

    return router


async def _start_of(request: Request) -> bytes:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            return b""
    return bytes(content)


def _update(
    record: ProcessingRecord, attempt: int, what: str, answer: PipelineAnswer
) -> StatusUpdate:
    return StatusUpdate(
        processing_id=record.id,
        asked_attempt=attempt,
        attempt=attempt,
        state=_state(what, answer),
        done=answer.done,
        total=answer.total,
        error=answer.error,
        started=answer.started,
        # As of a report on `activity.*`: a success that the sdb does not back is asked about.
        reported_by=record.provider,
        interface=Interface.REQUEST,
    )


def _state(what: str, answer: PipelineAnswer) -> State:
    match what:
        case "success":
            return State.SUCCEEDED
        case "failed":
            return State.CANCELLED if answer.state is State.CANCELLED else State.FAILED
        case _:
            return State.QUEUED if answer.state is State.QUEUED else State.RUNNING
