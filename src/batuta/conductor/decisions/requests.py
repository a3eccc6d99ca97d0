"""What is asked of a pipeline: the next attempt of a processing, or how it is."""

from dataclasses import dataclass, replace
from enum import Enum

from batuta.conductor.decisions.events import Interface
from batuta.conductor.decisions.processing_record import (
    AHEAD_S,
    Conditions,
    ProcessingRecord,
    is_overdue,
    next_poll_at,
)
from batuta.messaging import ProcessingState as State
from batuta.messaging.processings import attempt_id


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
    after = _not_ahead(record, conditions.now)
    after = replace(after, ask_at=next_poll_at(after, conditions))
    if not is_overdue(record, conditions.now):
        return Poll(record, PollAction.QUERY), after
    # Recorded before its pipeline is told: that reports the stop to all conductors, and one whose
    # clock is behind would take it for an order to cancel.
    overdue_since = record.overdue_since or conditions.now
    return Poll(record, PollAction.STOP), replace(after, overdue_since=overdue_since)


def _not_ahead(record: ProcessingRecord, now: float) -> ProcessingRecord:
    """Return `record` as requested and started now, where a clock that was ahead says later.

    Its timeout counts from there, and would end hours late.
    """
    if (record.requested or 0.0) <= now + AHEAD_S and (record.started or 0.0) <= now + AHEAD_S:
        return record
    return replace(
        record,
        requested=None if record.requested is None else min(record.requested, now),
        started=None if record.started is None else min(record.started, now),
    )


def request(
    record: ProcessingRecord, conditions: Conditions, instance: str | None = None
) -> ProcessingRecord:
    """Return `record` once its next attempt is to be sent.

    `instance` is the address that it is sent to, if its provider has several.
    """
    return replace(
        record,
        state=State.REQUESTED,
        attempt=record.attempt + 1,
        pipeline_attempt=record.attempt + 1,
        requested=conditions.now,
        started=None,
        overdue_since=None,
        done=0,
        total=0,
        profiled=False,
        code=None,
        pipeline_id=_request_id(record),
        interface=None,
        instance=instance,
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
