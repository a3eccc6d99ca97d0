"""Events about the processing of `processing_records`, and records, for tests of transitions."""

from dataclasses import replace
from typing import Any

from batuta.conductor.decisions.events import (
    Archived,
    Busy,
    DeadlinePassed,
    InstanceLost,
    Interface,
    NoStateTold,
    PipelineUnreachable,
    Refused,
    StatusUpdate,
    UnknownToPipeline,
)
from batuta.messaging import ProcessingState as State
from tests.conductor.processing_records import (
    NOW,
    REQUESTED,
    RUNNING,
)


def values_of(state: State, values: dict[str, Any]) -> dict[str, Any]:
    """Values of a status update; a success is archived."""
    archived = True if state is State.SUCCEEDED else None
    return {"processing_id": "p1", "state": state, "attempt": 2, "archived": archived, **values}


def update(state: State, **values: Any) -> StatusUpdate:
    return StatusUpdate(**values_of(state, values))


def stopped(state: State, **values: Any) -> DeadlinePassed:
    return DeadlinePassed(**values_of(state, values))


def unknown(polled_state: State, **values: Any) -> UnknownToPipeline:
    given = {"counts_attempts": True, **values}
    return UnknownToPipeline(
        processing_id="p1", asked_attempt=2, polled_state=polled_state, **given
    )


def silent(**values: Any) -> NoStateTold:
    return NoStateTold(processing_id="p1", asked_attempt=2, **values)


def archived(
    product: str = RUNNING.product, obs_id: str = RUNNING.obs_id, provider: str | None = "maker"
) -> Archived:
    return Archived(processing_id="p1", product=product, obs_id=obs_id, provider=provider)


BUSY = Busy(processing_id="p1", asked_attempt=2, error="full", wait_s=5.0)
LAST_REQUEST = replace(REQUESTED, max_attempts=2)
REFUSED = Refused(processing_id="p1", asked_attempt=2, error="no such product")
UNREACHABLE = PipelineUnreachable(processing_id="p1", asked_attempt=2, error="no answer")
NOT_STOPPED = replace(UNREACHABLE, overdue=True)
NOT_ASKED = replace(UNREACHABLE, polled=True)
LOST_INSTANCE = InstanceLost(
    processing_id="p1", asked_attempt=2, error="lost: maker", recognised=False
)
COUNTING = replace(RUNNING, interface=Interface.ATTEMPTS)
ASKED_BEFORE = replace(RUNNING, interface=Interface.QUERY)
SINCE_REQUEST: dict[str, Any] = {"state": State.RUNNING, "started": NOW - 10, "ask_at": NOW + 5}
NOT_STOPPING = "no end after 60 s (timeout), and maker does not stop it"

RETRYING: dict[str, Any] = {"state": State.RETRYING, "not_before": NOW + 2}
AGAIN: dict[str, Any] = {"state": State.WAITING, "attempt": 1}
TIMEOUT = "no end after 60 s (timeout), stopped at maker"
