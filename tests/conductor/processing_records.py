"""The record of a processing, as tests of the conductor's decisions start from it."""

from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.messaging import ProcessingState as State

NOW = 1_000_000.0

RUNNING = ProcessingRecord(
    id="p1",
    product="B",
    obs_id="o1",
    provider="maker",
    priority=0,
    state=State.RUNNING,
    attempt=2,
    pipeline_attempt=2,
    max_attempts=3,
    timeout_s=60.0,
    not_before=NOW - 20,
    ask_at=NOW,
    done=1,
    total=4,
    error="first attempt",
    requested=NOW - 10,
    started=NOW - 8,
    ended=None,
    profiled=False,
    remake=False,
)
