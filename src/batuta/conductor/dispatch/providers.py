"""The pipelines' REST interface, the same for all: request, query and cancel a processing."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from pydantic_core import from_json, to_json

from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.decisions.answers import PipelineAnswer, address, read_answer, reference
from batuta.conductor.decisions.circuits import Answered, Full, Signal, Unanswered, wait_asked_s
from batuta.conductor.decisions.events import (
    Busy,
    DeadlinePassed,
    Event,
    Interface,
    NoStateTold,
    PipelineUnreachable,
    PollPostponed,
    Refused,
    StatusUpdate,
    UnknownToPipeline,
)
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.conductor.decisions.requests import Poll, PollAction
from batuta.conductor.decisions.stops import Stop, StopAnswer
from batuta.errors import one_line
from batuta.messaging import ProcessingState as State
from batuta.service.client import ServiceError
from batuta.service.http_pool import Answer, HttpPool, PoolTimeouts, open_pool
from batuta.stages import stage_of

TIMEOUTS: Final = PoolTimeouts(connect_s=3.0, read_s=15.0)
ANSWER_TIMEOUT_S: Final = 30.0
"""How long an answer may take in all, in seconds."""
MAX_ANSWER_BYTES: Final = 2**20
CANNOT: Final = frozenset({404, 405, 410, 501})
"""How a pipeline answers that it does not know a processing, or cannot tell or stop it."""
_UNKNOWN: Final = frozenset({404, 410})
_BAD_BODY: Final = frozenset({400, 422})
_FULL: Final = frozenset({429, 503})
_LOST: Final = frozenset({502, 504})
"""How a proxy answers that it has lost the answer."""

SubscriberOf = Callable[[DueRequest], Mapping[str, str] | None]


class Providers:
    """The pipelines of a graph, over REST; made by `open_providers`."""

    def __init__(
        self,
        pool: HttpPool,
        fresh: HttpPool,
        url_of: Callable[[str], str],
        subscriber_of: SubscriberOf,
        on_signal: Callable[[Signal], None],
    ) -> None:
        self._on_signal = on_signal
        self._pool = pool
        self._fresh = fresh
        self._url_of = url_of
        self._subscriber_of = subscriber_of
        self._strict: set[str] = set()
        self._counting: set[str] = set()

    async def request(self, request: DueRequest) -> Event:
        """Request a processing; return what became of the request."""
        sent = request.request_id or request.processing_id
        try:
            url = f"{request.instance or self._url_of(request.provider)}/processing"
        except ServiceError as exc:
            return _unreachable(request.processing_id, request.attempt, exc)
        try:
            response = await self._post(request, url, sent)
        except ServiceError as exc:
            return _after_failed_request(request, exc)
        answer = read_answer(response.content)
        shown = _shown(answer, sent, Interface.REQUEST)
        if shown is Interface.ATTEMPTS:
            self._counting.add(request.provider)
        return _told(
            answer,
            request.processing_id,
            request.attempt,
            pipeline_id=reference(answer, response.headers.get("location"), url, sent),
            interface=shown,
        )

    async def poll(self, poll: Poll) -> Event:
        """Ask about a processing, or have it stopped, as `poll` says; return the outcome."""
        record = poll.record
        stopping = poll.action is PollAction.STOP
        known_as = record.pipeline_id or record.id
        try:
            response = await self._ask(record, "DELETE" if stopping else "GET")
        except ServiceError as exc:
            return _after_failed_poll(record, exc, overdue=stopping)
        answer = read_answer(response.content)
        if answer.ids and not {known_as, record.id} & {*answer.ids} and "/" not in known_as:
            error = (
                f"{record.provider}: asked about the processing {known_as}, it answered about "
                f"{answer.ids[0]!r:.80}"
            )
            return NoStateTold(
                processing_id=record.id,
                asked_attempt=record.attempt,
                error=error,
                overdue=stopping,
            )
        if stopping:
            # It has been asked to stop, and does not refuse.
            state = answer.state or State.CANCELLED
            return _told(
                replace(answer, state=state), record.id, record.attempt, kind=DeadlinePassed
            )
        shown = _shown(answer, known_as, Interface.QUERY if answer.state else None)
        if shown is Interface.ATTEMPTS and _is_of_earlier_attempt(answer, record):
            return UnknownToPipeline(
                processing_id=record.id,
                asked_attempt=record.attempt,
                polled_state=record.state,
                counts_attempts=True,
            )
        return _told(answer, record.id, record.attempt, interface=shown)

    async def stop(self, record: ProcessingRecord | Stop) -> StopAnswer:
        """Ask a pipeline to stop a processing; that it supports no stopping is an answer, too."""
        try:
            await self._ask(record, "DELETE")
        except ServiceError as exc:
            if exc.status in _UNKNOWN:
                return StopAnswer(is_known=False)
            if exc.status not in CANNOT:
                return StopAnswer(failure=one_line(exc))
        return StopAnswer()

    async def _ask(self, record: ProcessingRecord | Stop, method: str) -> Answer:
        """Send a request about a processing to where it is."""
        instance = record.instance or self._url_of(record.provider)
        about = _About(record.provider, instance, record.id, record.obs_id, polls=True)
        url = address(instance, record.pipeline_id or record.id)
        if method == "DELETE" and _counts_attempts(record):
            # It may arrive late, and after another conductor has requested the next attempt.
            url = f"{url}?attempt={record.attempt}"
        return await self._call(method, about, url)

    async def _post(self, request: DueRequest, url: str, sent: str) -> Answer:
        required: dict[str, object] = {"product": request.product, "obs_id": request.obs_id}
        further: dict[str, object] = {"processing_id": sent, "attempt": request.attempt}
        if inputs := from_json(request.inputs):
            further["inputs"] = inputs
        if request.graph_version is not None:
            further["graph_version"] = request.graph_version
        if request.stage is not None:
            further["stage"] = stage_of(request.stage)
        if request.remake:
            further["remake"] = True
        if (subscriber := self._subscriber_of(request)) is not None:
            further["subscriber"] = subscriber
        instance = url.removesuffix("/processing")
        about = _About(request.provider, instance, request.processing_id, request.obs_id)
        if request.provider not in self._strict:
            try:
                return await self._call("POST", about, url, required | further)
            except ServiceError as exc:
                if exc.status not in _BAD_BODY:
                    raise
        # One that refuses keys that it does not know: nothing was started by that.
        response = await self._call("POST", about, url, required)
        self._strict.add(request.provider)
        return response

    async def _call(
        self, method: str, about: "_About", url: str, body: dict[str, object] | None = None
    ) -> Answer:
        """Send any request to a provider, and tell what that shows of the instance."""
        # A request that is lost must be recognised when it is repeated, or must not be lost.
        pool = self._pool if about.provider in self._counting else self._fresh
        try:
            answer = await pool.send(
                about.provider,
                method,
                url,
                body=None if body is None else to_json(body),
                max_bytes=MAX_ANSWER_BYTES,
                max_s=ANSWER_TIMEOUT_S,
            )
        except ServiceError as exc:
            self._on_signal(about.signal(exc))
            raise
        self._on_signal(about.signal(None))
        return answer


def _counts_attempts(record: ProcessingRecord | Stop) -> bool:
    return isinstance(record, ProcessingRecord) and record.interface is Interface.ATTEMPTS


@dataclass(frozen=True, slots=True)
class _About:
    """Whom a request is sent to, and what it is about; `polls` unless it starts a processing."""

    provider: str
    instance: str
    processing_id: str
    obs_id: str
    polls: bool = False

    def signal(self, exc: ServiceError | None) -> Signal:
        """Return what the outcome of the request shows of the instance."""
        whose = {
            "provider": self.provider,
            "instance": self.instance,
            "processing_id": self.processing_id,
        }
        if exc is None:
            return Answered(**whose)
        if exc.status in _FULL:
            return Full(**whose, wait_s=wait_asked_s(exc.retry_after_s), polls=self.polls)
        if exc.status is not None and (exc.status < 500 or exc.status in CANNOT):
            return Answered(**whose)
        obs_id = None if exc.status is None and exc.unreachable else self.obs_id
        return Unanswered(**whose, reason=str(exc), obs_id=obs_id)


@asynccontextmanager
async def open_providers(
    url_of: Callable[[str], str],
    token: str | None,
    subscriber_of: SubscriberOf = lambda _request: None,
    on_signal: Callable[[Signal], None] = lambda _signal: None,
) -> AsyncIterator[Providers]:
    """Open the connections to the pipelines.

    Parameters
    ----------
    url_of : callable
        Returns the address of a provider that has one, or its first.
    token : str or None
        Shown to them.
    subscriber_of : callable
        Returns the addresses by which a request is called back; None if it is not.
    on_signal : callable
        Called with what each request shows of the instance that it was sent to, before what it
        means for the processing is returned.
    """
    async with (
        open_pool(token, TIMEOUTS) as pool,
        open_pool(token, TIMEOUTS, reuse=False) as fresh,
    ):
        yield Providers(pool, fresh, url_of, subscriber_of, on_signal)


def _shown(answer: PipelineAnswer, sent: str, otherwise: Interface | None) -> Interface | None:
    """Return what an answer shows of the interface that its pipeline has."""
    counts = answer.attempt is not None and sent in answer.ids
    return Interface.ATTEMPTS if counts else otherwise


def _told(
    answer: PipelineAnswer,
    processing_id: str,
    attempt: int,
    *,
    kind: type[StatusUpdate] = StatusUpdate,
    pipeline_id: str | None = None,
    interface: Interface | None = None,
) -> StatusUpdate | NoStateTold:
    if answer.state is None:
        return NoStateTold(
            processing_id=processing_id,
            asked_attempt=attempt,
            pipeline_id=pipeline_id,
            interface=interface,
        )
    counted = answer.attempt if interface is Interface.ATTEMPTS else None
    return kind(
        processing_id=processing_id,
        asked_attempt=attempt,
        state=answer.state,
        attempt=counted or attempt,
        done=answer.done,
        total=answer.total,
        error=answer.error,
        started=answer.started,
        profiled=answer.profiled,
        code=answer.code,
        pipeline_id=pipeline_id,
        interface=interface,
    )


def _unreachable(processing_id: str, attempt: int, exc: ServiceError) -> PipelineUnreachable:
    return PipelineUnreachable(
        processing_id=processing_id,
        asked_attempt=attempt,
        error=str(exc),
        connected=exc.status is not None or not exc.unreachable,
    )


def _after_failed_request(request: DueRequest, exc: ServiceError) -> Event:
    about, attempt = request.processing_id, request.attempt
    if exc.status in _FULL:
        wait_s = wait_asked_s(exc.retry_after_s)
        return Busy(processing_id=about, asked_attempt=attempt, error=str(exc), wait_s=wait_s)
    if exc.refused:
        return Refused(processing_id=about, asked_attempt=attempt, error=str(exc))
    if exc.status in _LOST or (exc.status is None and not exc.unreachable):
        # It may have arrived: sent again at once, it would start two processings.
        return NoStateTold(processing_id=about, asked_attempt=attempt, error=str(exc))
    return _unreachable(about, attempt, exc)


def _is_of_earlier_attempt(answer: PipelineAnswer, record: ProcessingRecord) -> bool:
    """Return whether a pipeline tells the end of an attempt before the current one.

    It does not know the current one: its request was lost, such as with a conductor that was killed
    as it sent it. Taken for the end of the current one, an attempt that was stopped at its deadline
    would seem to be cancelled by a person. One that has not ended is adopted
    (`batuta.conductor.decisions.transitions`), and then it is the current one.
    """
    ended = answer.state in (State.FAILED, State.CANCELLED)
    return ended and answer.attempt is not None and answer.attempt < record.pipeline_attempt


def _after_failed_poll(record: ProcessingRecord, exc: ServiceError, *, overdue: bool) -> Event:
    if exc.status in _UNKNOWN:
        return UnknownToPipeline(
            processing_id=record.id,
            asked_attempt=record.attempt,
            polled_state=record.state,
            counts_attempts=read_answer(exc.content).attempt is not None,
            overdue=overdue,
        )
    if exc.status in _FULL:
        wait_s = wait_asked_s(exc.retry_after_s)
        return PollPostponed(processing_id=record.id, asked_attempt=record.attempt, wait_s=wait_s)
    if exc.status in CANNOT:
        return NoStateTold(processing_id=record.id, asked_attempt=record.attempt, overdue=overdue)
    return replace(_unreachable(record.id, record.attempt, exc), polled=True, overdue=overdue)
