"""What an event changes of a processing: functions of typed values.

A `ProcessingRecord` and an event go in, the record as it is afterwards comes out. There is no
database, no network and no clock here: the ledger reads and writes the records, the dispatcher
talks to the pipelines and turns their answers into events. So every decision is made once, and
can be tested as a table.
"""

from dataclasses import replace

from batuta.conductor.decisions.events import (
    Archived,
    Busy,
    DeadlinePassed,
    Event,
    InstanceLost,
    Interface,
    NoStateTold,
    PipelineUnreachable,
    PollPostponed,
    Refused,
    StatusUpdate,
    UnknownToPipeline,
)
from batuta.conductor.decisions.processing_record import (
    AT_PROVIDER,
    GIVEN_UP,
    Conditions,
    ProcessingRecord,
    is_overdue,
    next_poll_at,
    retry_wait_s,
)
from batuta.messaging import ProcessingState as State

Unanswered = InstanceLost | NoStateTold | PipelineUnreachable
"""What may tell that a request was not answered."""


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
    # processing that was cancelled a moment too late, may still have imported its product. What
    # was stopped because its input was withdrawn is not wanted any more.
    unwanted = record.withdrawn_input is not None or _is_refused(record, conditions)
    if record.state is not State.SUCCEEDED and not unwanted:
        if isinstance(event, Archived):
            return _succeeded(record, conditions.now)
        if isinstance(event, StatusUpdate) and event.state is State.SUCCEEDED and event.archived:
            return _after_status(record, event, conditions)
    if record.state not in AT_PROVIDER or _is_outdated(event, record):
        return _with_late_details(record, event, conditions.now)
    if isinstance(event, Unanswered) and _is_repeated(record, event, conditions):
        return _back_to_waiting(record, event.error, conditions.now)
    return _after_current(record, event, conditions)


def _is_refused(record: ProcessingRecord, conditions: Conditions) -> bool:
    """Return whether a result of a processing that was given up is not taken by itself."""
    return record.state in GIVEN_UP and not conditions.adopts


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
        case Busy() | PollPostponed():
            return _after_postponement(record, event, conditions)
        case InstanceLost():
            return _after_loss(record, event, conditions)
        case Refused(error=error):
            return _after_failure(record, error, conditions, final=True)
        case PipelineUnreachable() if not _says_nothing(record, event):
            return _after_unreachable(record, event, conditions)
        case NoStateTold() | PipelineUnreachable() | UnknownToPipeline():
            return _after_no_answer(record, event, conditions)
        case _:
            raise TypeError(f"unknown event {event!r}")


def _after_postponement(
    record: ProcessingRecord, event: Busy | PollPostponed, conditions: Conditions
) -> ProcessingRecord:
    until = conditions.now + event.wait_s
    if isinstance(event, PollPostponed):
        return replace(record, ask_at=until)
    # The attempt did not take place. Another instance may have room.
    free_at = until if conditions.asked_at is None else conditions.asked_at
    return _back_to_waiting(record, event.error, free_at)


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
            told = NoStateTold(processing_id=record.id, error=cause)
            after = _after_silence(record, told, conditions)
            return replace(after, ask_at=_after_no_connection(after, event, conditions))
        return _after_silence(record, event, conditions)
    if isinstance(event, UnknownToPipeline) and event.polled_state is State.REQUESTED:
        # The request never arrived, or is still on its way. It is sent again as the same
        # attempt: if the first one arrives after all, the pipeline recognises the second.
        return _back_to_waiting(record, None, conditions.now)
    lost = f"lost: {record.provider} no longer knows this processing"
    return _after_failure(record, lost, conditions)


def _after_unreachable(
    record: ProcessingRecord, event: PipelineUnreachable, conditions: Conditions
) -> ProcessingRecord:
    """Return `record` after its pipeline could not be asked, which would recognise a repeat."""
    if event.overdue:
        return _after_failure(record, f"{event.error} ({_no_end(record)})", conditions)
    if event.polled:
        # It may be back in a moment, and go on. If it is not, it is taken for lost (`circuits`).
        return replace(record, ask_at=_after_no_connection(record, event, conditions))
    if conditions.circuit_open:
        # What is left alone must not cost processings their attempts. They are due as soon as its
        # circuit lets them, which an operator may close.
        return _back_to_waiting(record, event.error, conditions.now)
    return _after_failure(record, event.error, conditions)


def _is_repeated(record: ProcessingRecord, event: Unanswered, conditions: Conditions) -> bool:
    """Return whether a request that was never answered is sent again as the same attempt.

    Its address is left alone because it does not answer: what is tried there must not cost
    processings their attempts. But the request may have arrived: it is repeated only where that
    is recognised, or once the timeout is over, if it would be requested again in any case. After
    the last attempt it would not: it may have been limited to one because it must not run twice.
    """
    if not conditions.circuit_open or not _is_unanswered(record):
        return False
    match event:
        case InstanceLost(recognised=recognised):
            return recognised
        case NoStateTold(error=error, interface=interface):
            return conditions.recognises and error is not None and interface is None
        case PipelineUnreachable(overdue=overdue):
            return conditions.recognises or (overdue and record.attempt < record.max_attempts)


def _is_unanswered(record: ProcessingRecord) -> bool:
    """Return whether nothing was heard from the pipeline in the current attempt.

    What is taken for running is so since its request (`_after_silence`); a pipeline that reports
    by ``activity.*`` alone, without counting attempts, tells when it started.
    """
    told = record.state is State.QUEUED or record.started not in (None, record.requested)
    return record.interface is None and not told


def _after_loss(
    record: ProcessingRecord, event: InstanceLost, conditions: Conditions
) -> ProcessingRecord:
    if event.recognised or record.interface is Interface.ATTEMPTS:
        return _after_failure(record, event.error, conditions)
    return record


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
    # One that an address was tried with, or that it still owes an answer to, may not have arrived:
    # it stays requested, so that a pipeline that says so later is asked for the same attempt again.
    unanswered = conditions.circuit_open and event.error is not None and _is_unanswered(record)
    after = replace(
        _with_interface(record, event),
        state=State.REQUESTED if unanswered else State.RUNNING,
        started=record.started or record.requested or conditions.now,
        error=event.error or record.error,
    )
    return replace(after, ask_at=next_poll_at(after, conditions))


def _after_no_connection(
    record: ProcessingRecord, event: PipelineUnreachable | UnknownToPipeline, conditions: Conditions
) -> float:
    """Return when a pipeline that was polled is polled again.

    Soon where nobody was there: only several such polls tell a restart from a loss.
    """
    poll_at = next_poll_at(record, conditions)
    if isinstance(event, UnknownToPipeline) or event.connected:
        return poll_at
    return min(poll_at, conditions.now + conditions.waits.ask_after_s)


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
    if not isinstance(event, StatusUpdate | NoStateTold) or _is_outdated(event, record):
        return record
    if record.state is State.SUCCEEDED:
        # Its product may be announced before the answer to its request is recorded.
        record = _with_interface(record, event)
    if isinstance(event, NoStateTold):
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
    after = replace(record, state=event.state)
    if event.total or event.state is State.QUEUED:
        # An answer that tells no progress is no news of it: another may just have told it.
        after = replace(after, done=event.done, total=event.total)
    elif event.state is State.SUCCEEDED:
        after = replace(after, done=record.total)
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
    # A deadline that has passed stands, though a restarted pipeline begins anew: it is being told
    # to stop, and must not seem to have been cancelled by somebody.
    if not is_overdue(record, conditions.now):
        after = replace(after, started=_begun(record, event, conditions.now))
    return replace(after, ask_at=next_poll_at(after, conditions))


def _begun(record: ProcessingRecord, event: StatusUpdate, now: float) -> float | None:
    """Return since when a processing that has not ended runs; None where it does not."""
    if event.state is State.QUEUED:
        # If it ran before, its pipeline was restarted and queued it again.
        return None
    if event.state is State.RUNNING:
        return _started_at(record, event, now) or record.started or now
    return record.started


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
        record = _after_silence(record, NoStateTold(processing_id=record.id), conditions)
        # Not where it answers the request to stop: there, what is not archived is not made.
        if event.archived is not None and not isinstance(event, DeadlinePassed):
            return record
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
