"""What somebody publishes on NATS that is not so."""

import sqlite3
from typing import TYPE_CHECKING

from batuta.messaging import (
    Activity,
    DataAvailable,
    Processing,
    ProcessingState,
    ServiceStatus,
    subjects,
)
from batuta.messaging.events import CloudEvent, activity_event, data_event
from tests.support.simulation.plan import CONDUCTOR, MAKER, Fault

if TYPE_CHECKING:
    from tests.support.simulation.orchestra import Orchestra


def publish_noise(orchestra: "Orchestra", fault: Fault) -> None:
    """Publish what a fault says; nothing where nothing is under way."""
    if fault.kind == "malformed":
        _store(orchestra, subjects.data_subject("telescope"), b"no event", f"{fault}")
    elif fault.kind == "false_product":
        obs_id = orchestra.plan.observations[0] if orchestra.plan.imports else "obs-1"
        news = DataAvailable(product="LEVEL1", obs_id=obs_id, version=99)
        event = data_event(news, subjects.SDB_SOURCE, f"false {fault}")
        _publish(orchestra, subjects.data_subject(subjects.SDB_SOURCE), event)
    else:
        _claim_success(orchestra)


def _claim_success(orchestra: "Orchestra") -> None:
    with sqlite3.connect(orchestra.database(CONDUCTOR)) as connection:
        rows = connection.execute(
            "SELECT id, product, obs_id, pipeline_attempt FROM conductor_processings "
            "WHERE ended IS NULL ORDER BY created, id"
        ).fetchall()
    connection.close()
    for processing_id, product, obs_id, attempt in rows:
        status = ServiceStatus(name=MAKER, kind="pipeline", url="http://127.0.0.1:5000")
        processing = Processing(
            id=processing_id,
            product=product,
            obs_id=obs_id,
            state=ProcessingState.SUCCEEDED,
            attempt=attempt,
        )
        event = activity_event(Activity(service=status, processing=processing))
        _publish(orchestra, subjects.activity_subject(MAKER), event)


def _publish(orchestra: "Orchestra", subject: str, event: CloudEvent) -> None:
    _store(orchestra, subject, event.encode(), event.id)


def _store(orchestra: "Orchestra", subject: str, payload: bytes, message_id: str) -> None:
    if orchestra.server.streams:
        orchestra.server.store(subject, payload, {"Nats-Msg-Id": message_id})
