"""The record of a processing, as tests of the conductor's decisions start from it."""

from dataclasses import replace

from batuta.conductor.decisions.processing_record import Conditions, ProcessingRecord, WaitConfig
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

CONDITIONS = Conditions(now=NOW, waits=WaitConfig())

REQUESTED = replace(RUNNING, state=State.REQUESTED, started=None, done=0, total=0)
OVERDUE = replace(RUNNING, started=NOW - 61)
LAST = replace(RUNNING, attempt=3, pipeline_attempt=3)
FAILED = replace(LAST, state=State.FAILED, ended=NOW - 1, error="no luck")
CANCELLED = replace(RUNNING, state=State.CANCELLED, ended=NOW - 1, error="by a person")
SUCCEEDED = replace(RUNNING, state=State.SUCCEEDED, ended=NOW - 1, error=None)
