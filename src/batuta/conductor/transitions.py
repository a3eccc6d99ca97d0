"""What an event changes of a processing: functions of typed values.

A `ProcessingRecord` and an event go in, the record as it is afterwards comes out. There is no
database, no network and no clock here: the ledger reads and writes the records, the dispatcher
talks to the pipelines and turns their answers into events. So every decision is made once, and
can be tested as a table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from batuta.conductor.events import (
    Archived,
    Busy,
    DeadlinePassed,
    Event,
    Interface,
    NoStateTold,
    PipelineUnreachable,
    Refused,
    StatusUpdate,
    UnknownToPipeline,
)
from batuta.graph import Product
from batuta.messaging import ProcessingState as State
from batuta.messaging.processings import attempt_id

REPORTING_POLL_S: Final = 30.0
"""A pipeline that reports its activity is polled no sooner than this, in seconds."""
MAX_POLL_WAIT_S: Final = 60.0
"""Longest time between two polls of one processing, in seconds."""
AFTER_DEADLINE_S: Final = 0.05
"""How long after its deadline a processing is polled, so that the poll finds it overdue."""

AT_PROVIDER: Final = frozenset({State.REQUESTED, State.QUEUED, State.RUNNING})
"""The states in which events about the current attempt count."""
REPORTED: Final = frozenset({State.RETRYING, State.FAILED, State.CANCELLED, State.SUCCEEDED})
"""The states that others are told of when a processing enters them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessingRecord:
    """What decisions depend on and change: the row of a processing, without its claim.

    Fields are named as the columns of the table; times are seconds since 1970.

    Attributes
    ----------
    attempt : int
        Attempts requested so far; the current one while the processing is at its provider.
    pipeline_attempt : int
        The current attempt as its pipeline counts; reports of earlier ones are outdated.
    not_before : float
        When it may be requested, while it waits.
    ask_at : float
        When its pipeline is polled next, while it is at its provider.
    started : float or None
        When its pipeline started the current attempt. Its timeout counts from here.
    profiled : bool
        Whether its pipeline keeps a profile of the last attempt that ended.
    remake : bool
        Whether its pipeline is to run it again although an earlier attempt has succeeded: the
        sdb does not hold its product.
    code : str or None
        The version of the code that the current attempt, or the last one, ran.
    pipeline_id : str or None
        Under which its pipeline knows the current attempt: the id that it is sent, then the id or
        the path that it answers. None: `id`.
    interface : Interface or None
        What its pipeline has shown in the current attempt. None: it has not answered.
    """

    id: str
    product: str
    obs_id: str
    provider: str
    priority: int
    state: State
    attempt: int
    pipeline_attempt: int
    max_attempts: int
    timeout_s: float
    not_before: float
    ask_at: float
    done: int
    total: int
    error: str | None
    requested: float | None
    started: float | None
    ended: float | None
    profiled: bool
    remake: bool
    code: str | None = None
    pipeline_id: str | None = None
    interface: Interface | None = None


# ---------------------------------------------------------------------- conditions


@dataclass(frozen=True, kw_only=True)
class WaitConfig:
    """How long to wait before a retry and before a poll: see `ConductorSettings`."""

    retry_wait_s: float = 1.0
    retry_wait_max_s: float = 300.0
    ask_after_s: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a decision depends on besides the record.

    Attributes
    ----------
    reports_activity : bool
        Whether the provider reports on ``activity.*``: then it is polled later.
    """

    now: float
    waits: WaitConfig
    reports_activity: bool = False

    @property
    def first_poll_wait_s(self) -> float:
        """How long after a request the pipeline is first polled, in seconds."""
        return max(self.waits.ask_after_s, REPORTING_POLL_S if self.reports_activity else 0.0)


def retry_wait_s(attempt: int, first_s: float, max_s: float) -> float:
    """Return the wait after `attempt` (from 1) failed: doubled each time, up to `max_s`."""
    return min(max_s, first_s * 2.0 ** min(attempt - 1, 60))


def poll_wait_s(requested_since_s: float, first_s: float) -> float:
    """Return how long to wait before the next poll of a processing.

    It grows with the time since the request, so that a long processing costs few polls.
    """
    return min(MAX_POLL_WAIT_S, max(first_s, requested_since_s / 2))


# ---------------------------------------------------------------------- what the conductor does


class PollAction(Enum):
    """What the pipeline of a processing is asked."""

    QUERY = "query"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Poll:
    """An instruction to the dispatcher: ask the pipeline of `record`, as it is now."""

    record: ProcessingRecord
    action: PollAction


def poll(record: ProcessingRecord, conditions: Conditions) -> tuple[Poll, ProcessingRecord]:
    """Decide what to ask the pipeline, and when to ask it next if no answer changes that."""
    action = PollAction.STOP if is_overdue(record, conditions.now) else PollAction.QUERY
    return Poll(record, action), replace(record, ask_at=_next_poll_at(record, conditions))


def request(record: ProcessingRecord, conditions: Conditions) -> ProcessingRecord:
    """Return `record` once its next attempt is to be sent."""
    return replace(
        record,
        state=State.REQUESTED,
        attempt=record.attempt + 1,
        pipeline_attempt=record.attempt + 1,
        requested=conditions.now,
        started=None,
        done=0,
        total=0,
        profiled=False,
        code=None,
        pipeline_id=_request_id(record),
        interface=None,
        ask_at=conditions.now + conditions.first_poll_wait_s,
    )


def _request_id(record: ProcessingRecord) -> str | None:
    """Return the id that the next request is sent under; None for that of the processing.

    An id stands for one attempt, so that a pipeline may take it for an idempotency key: a request
    of which no answer is known is repeated under the id that it had. A pipeline that counts
    attempts tells them apart by their number, any other by a new id.
    """
    if record.interface is None:
        return record.pipeline_id
    if record.interface is Interface.ATTEMPTS:
        return None
    return attempt_id(record.id, record.attempt + 1)


def cancel(record: ProcessingRecord, reason: str, now: float) -> ProcessingRecord | None:
    """Return `record` cancelled by an operator; None if it has ended."""
    if record.state.ended:
        return None
    return replace(record, state=State.CANCELLED, error=reason, ended=now)


def retry(record: ProcessingRecord, product: Product | None, now: float) -> ProcessingRecord | None:
    """Return `record` with all its attempts again, now; None unless it failed or was cancelled.

    One whose last attempt failed, and that waits for the next one, is tried at once. `product` is
    what the graph says of it now: the graph may have been corrected since, which may be why it is
    retried. None if the graph no longer has it.
    """
    if record.state not in (State.FAILED, State.CANCELLED, State.RETRYING):
        return None
    return _renewed(record, product, now)


def remake(
    record: ProcessingRecord, product: Product | None, now: float
) -> ProcessingRecord | None:
    """Return `record`, which succeeded, to be run again; None if it did not succeed.

    Its product was lost: the sdb does not hold it any more.
    """
    if record.state is not State.SUCCEEDED:
        return None
    return replace(
        _renewed(record, product, now),
        remake=True,
        error=f"made again: the sdb no longer holds {record.product}",
    )


def withdraw(
    record: ProcessingRecord, version: int, reason: str | None, now: float
) -> ProcessingRecord | None:
    """Return `record`, which succeeded, once its product was withdrawn; None if it did not succeed.

    It has failed then: a person may retry it, and a newer version of its inputs makes it again.
    """
    if record.state is not State.SUCCEEDED:
        return None
    why = f": {reason}" if reason else ""
    return replace(
        record,
        state=State.FAILED,
        remake=True,
        error=f"version {version} of {record.product} was withdrawn{why}",
        ended=now,
    )


def retry_with_newer_inputs(
    record: ProcessingRecord,
    product: Product,
    claimed: Mapping[str, int],
    available: Mapping[str, int],
    now: float,
) -> ProcessingRecord | None:
    """Return `record`, which has failed, with all its attempts again; None if nothing is newer.

    Its product was never made, so `on_update`, which is about products that were, does not
    matter: what was wrong may have been the input, and this is the corrected one. What a person
    cancelled stays cancelled.

    Parameters
    ----------
    claimed, available : mapping
        Versions of its inputs, by name: those that it was claimed from, and those there are now.
    """
    if record.state is not State.FAILED:
        return None
    newer = [
        f"{name} v{available[name]}"
        for name, version in claimed.items()
        if available.get(name, 0) > version
    ]
    if not newer:
        return None
    # The suffix of an earlier correction goes: each would make the text longer.
    cause = (record.error or "").partition(_CORRECTED)[0]
    return replace(
        _renewed(record, product, now),
        error=f"{cause}{_CORRECTED}{', '.join(newer)} has arrived since",
    )


_CORRECTED: Final = "; to be made again: "


def _renewed(record: ProcessingRecord, product: Product | None, now: float) -> ProcessingRecord:
    more = product.max_attempts if product else 1
    after = replace(
        record,
        state=State.WAITING,
        max_attempts=record.attempt + more,
        not_before=now,
        ended=None,
    )
    if product is None:
        return after
    return replace(
        after,
        provider=product.provider,
        priority=product.priority,
        timeout_s=product.timeout_s,
    )


def is_overdue(record: ProcessingRecord, now: float) -> bool:
    """Return whether the current attempt has run for longer than its timeout."""
    return record.started is not None and now >= record.started + record.timeout_s


# ---------------------------------------------------------------------- what events change


def transition(
    record: ProcessingRecord, event: Event, conditions: Conditions
) -> ProcessingRecord | None:
    """Return `record` after `event`; None if the event changes nothing."""
    if not _concerns(event, record):
        return None
    after = _after(record, event, conditions)
    return None if after == record else after


def _concerns(event: Event, record: ProcessingRecord) -> bool:
    """Return whether the event comes from the provider, and tells of what was to be made.

    No other service knows how a processing is, and nothing else that it imports is its product.
    """
    match event:
        case StatusUpdate(reported_by=provider):
            return provider in (None, record.provider)
        case Archived(product=product, obs_id=obs_id, provider=provider):
            made = (product, obs_id) == (record.product, record.obs_id)
            return made and provider in (None, record.provider)
        case _:
            return True


def _after(record: ProcessingRecord, event: Event, conditions: Conditions) -> ProcessingRecord:
    # What is archived is made, whatever was believed meanwhile: a pipeline taken for dead, or a
    # processing that was cancelled a moment too late, may still have imported its product.
    if record.state is not State.SUCCEEDED:
        if isinstance(event, Archived):
            return _succeeded(record, conditions.now)
        if isinstance(event, StatusUpdate) and event.state is State.SUCCEEDED and event.archived:
            return _after_status(record, event, conditions)
    if record.state not in AT_PROVIDER or _is_outdated(event, record):
        return _with_late_details(record, event, conditions.now)
    return _after_current(record, event, conditions)


def _succeeded(record: ProcessingRecord, now: float) -> ProcessingRecord:
    return replace(
        record, state=State.SUCCEEDED, done=record.total, error=None, profiled=False, ended=now
    )


def _after_current(
    record: ProcessingRecord, event: Event, conditions: Conditions
) -> ProcessingRecord:
    """Return `record` after an event about its current attempt."""
    match event:
        case StatusUpdate():
            return _after_status(record, event, conditions)
        case Busy(error=error, wait_s=wait_s):
            # The attempt did not take place.
            return _back_to_waiting(record, error, conditions.now + wait_s)
        case Refused(error=error):
            return _after_failure(record, error, conditions, final=True)
        case NoStateTold() | PipelineUnreachable() | UnknownToPipeline():
            return _after_no_answer(record, event, conditions)
        case _:
            raise TypeError(f"unknown event {event!r}")


def _after_no_answer(
    record: ProcessingRecord,
    event: NoStateTold | PipelineUnreachable | UnknownToPipeline,
    conditions: Conditions,
) -> ProcessingRecord:
    """Return `record` after its pipeline told no state of it, or could not be asked."""
    if _says_nothing(record, event):
        if event.overdue:
            error = f"{_no_end(record)} (timeout), and {record.provider} does not stop it"
            return _after_failure(record, error, conditions)
        if not isinstance(event, NoStateTold):
            cause = event.error if isinstance(event, PipelineUnreachable) else None
            event = NoStateTold(processing_id=record.id, error=cause)
        return _after_silence(record, event, conditions)
    if isinstance(event, PipelineUnreachable):
        suffix = f" ({_no_end(record)})" if event.overdue else ""
        return _after_failure(record, event.error + suffix, conditions)
    if isinstance(event, UnknownToPipeline) and event.polled_state is State.REQUESTED:
        # The request never arrived, or is still on its way. It is sent again as the same
        # attempt: if the first one arrives after all, the pipeline recognises the second.
        return _back_to_waiting(record, None, conditions.now)
    lost = f"lost: {record.provider} no longer knows this processing"
    return _after_failure(record, lost, conditions)


def _says_nothing(
    record: ProcessingRecord, event: NoStateTold | PipelineUnreachable | UnknownToPipeline
) -> bool:
    """Return whether the processing may be under way all the same, at a pipeline of few words.

    Requested again, it would be made twice there: only a pipeline that counts attempts would
    recognise the request.
    """
    match event:
        case PipelineUnreachable(polled=polled, overdue=overdue):
            return polled and not overdue and record.interface is not Interface.ATTEMPTS
        case UnknownToPipeline(counts_attempts=counts):
            # A web server that has no such route answers the same.
            return not counts and record.interface in (None, Interface.REQUEST)
        case _:
            return True


def _after_silence(
    record: ProcessingRecord, event: NoStateTold, conditions: Conditions
) -> ProcessingRecord:
    """Return `record` while its pipeline tells nothing of it.

    It is taken for running since its request: so its timeout ends it if nothing is imported.
    """
    after = replace(
        _with_interface(record, event),
        state=State.RUNNING,
        started=record.started or record.requested or conditions.now,
        error=event.error or record.error,
    )
    return replace(after, ask_at=_next_poll_at(after, conditions))


def _with_interface(
    record: ProcessingRecord, event: StatusUpdate | NoStateTold
) -> ProcessingRecord:
    return replace(
        record,
        pipeline_id=event.pipeline_id or record.pipeline_id,
        interface=Interface.widest(record.interface, event.interface),
    )


def _started_at(record: ProcessingRecord, event: StatusUpdate, now: float) -> float | None:
    """Return when the attempt started, by the clock of the conductor.

    It cannot have started before it was requested, nor later than now: what the clock of the
    pipeline says beyond that is its error, and must not change the deadline.
    """
    if event.started is None:
        return None
    return min(max(event.started, record.requested or 0.0), now)


def _is_outdated(event: Event, record: ProcessingRecord) -> bool:
    """Return whether the event is about an attempt that is over.

    The two counts differ where a pipeline still works on an earlier attempt, whose request was
    believed lost: it answers the next request with the attempt that it is at.
    """
    if event.asked_attempt is not None:
        return event.asked_attempt != record.attempt
    return isinstance(event, StatusUpdate) and event.attempt < record.pipeline_attempt


def _with_late_details(record: ProcessingRecord, event: Event, now: float) -> ProcessingRecord:
    """Note what a pipeline reports of a processing that has ended here already.

    The product is announced before its pipeline reports success, and the profile of what the
    conductor stopped is written a moment later.
    """
    if not isinstance(event, StatusUpdate) or _is_outdated(event, record):
        return record
    record = replace(record, code=event.code or record.code)
    if record.state is State.SUCCEEDED and event.state is State.SUCCEEDED:
        record = replace(
            record,
            done=event.done or record.done,
            total=event.total or record.total,
            started=record.started or _started_at(record, event, now),
        )
    return replace(record, profiled=True) if event.profiled else record


def _after_status(
    record: ProcessingRecord, event: StatusUpdate, conditions: Conditions
) -> ProcessingRecord:
    record = replace(_with_interface(record, event), code=event.code or record.code)
    if _stopped_at_deadline(record, event, conditions.now):
        error = f"{_no_end(record)} (timeout), stopped at {record.provider}"
        return _after_failure(record, error, conditions, profiled=event.profiled)
    if event.state is State.FAILED:
        error = event.error or f"{record.provider} does not say why"
        return _after_failure(record, error, conditions, profiled=event.profiled)
    if event.state is State.SUCCEEDED and not event.archived:
        return _after_unconfirmed_success(record, event, conditions)
    after = replace(record, state=event.state, done=event.done, total=event.total)
    if event.asked_attempt is not None:
        after = replace(after, pipeline_attempt=event.attempt)
    if event.state.ended:
        return replace(
            after,
            started=record.started or _started_at(record, event, conditions.now),
            ended=conditions.now,
            error=None if event.state is State.SUCCEEDED else event.error,
            profiled=event.profiled,
        )
    if event.state is State.QUEUED:
        # If it ran before, its pipeline was restarted and queued it again.
        after = replace(after, started=None)
    elif event.state is State.RUNNING:
        started = _started_at(record, event, conditions.now)
        after = replace(after, started=started or record.started or conditions.now)
    return replace(after, ask_at=_next_poll_at(after, conditions))


def _after_unconfirmed_success(
    record: ProcessingRecord, event: StatusUpdate, conditions: Conditions
) -> ProcessingRecord:
    """Return `record` after a success is reported of which the sdb knows nothing.

    Whoever is on NATS can report it, so the pipeline itself is asked first. A pipeline imports
    its product before it answers so: if it is not archived then, it was not made.
    """
    if event.reported_by is not None:
        return replace(record, ask_at=conditions.now)
    if record.state is State.REQUESTED and record.interface is not Interface.ATTEMPTS:
        # "ok", as many answer a request, says that it was accepted.
        return _after_silence(record, NoStateTold(processing_id=record.id), conditions)
    if event.archived is None:
        return replace(record, ask_at=conditions.now + conditions.first_poll_wait_s)
    error = f"{record.provider} reports success, but the sdb has no {record.product} made by it"
    failed = _after_failure(record, error, conditions, profiled=event.profiled)
    return replace(failed, remake=True)


def _stopped_at_deadline(record: ProcessingRecord, event: StatusUpdate, now: float) -> bool:
    """Return whether the timeout ended the attempt, rather than the pipeline or a person.

    The conductor stops an overdue processing by a request, and the pipeline reports the stop on
    ``activity.*`` too: either may arrive first, and both must mean a failed attempt. If it ended
    by itself while it was being stopped, that end stands.
    """
    if isinstance(event, DeadlinePassed):
        return event.state not in (State.SUCCEEDED, State.FAILED)
    return event.state is State.CANCELLED and is_overdue(record, now)


def _no_end(record: ProcessingRecord) -> str:
    return f"no end after {record.timeout_s:g} s"


def _back_to_waiting(
    record: ProcessingRecord, error: str | None, not_before: float
) -> ProcessingRecord:
    """Return `record` as if its current attempt had not been requested."""
    return replace(
        record,
        state=State.WAITING,
        attempt=record.attempt - 1,
        not_before=not_before,
        error=error,
    )


def _after_failure(
    record: ProcessingRecord,
    error: str | None,
    conditions: Conditions,
    *,
    profiled: bool = False,
    final: bool = False,
) -> ProcessingRecord:
    failed = replace(record, error=error, profiled=profiled)
    if final or record.attempt >= record.max_attempts:
        return replace(failed, state=State.FAILED, ended=conditions.now)
    waits = conditions.waits
    wait_s = retry_wait_s(record.attempt, waits.retry_wait_s, waits.retry_wait_max_s)
    return replace(failed, state=State.RETRYING, not_before=conditions.now + wait_s)


def _next_poll_at(record: ProcessingRecord, conditions: Conditions) -> float:
    now = conditions.now
    since_s = now - record.requested if record.requested is not None else 0.0
    poll_at = now + poll_wait_s(since_s, conditions.first_poll_wait_s)
    if record.started is None:
        return poll_at
    # Right after its deadline at the latest, so that one that never ends is stopped on time.
    deadline = record.started + record.timeout_s
    return min(poll_at, max(now, deadline) + AFTER_DEADLINE_S)
