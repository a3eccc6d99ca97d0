"""Messages of NATS as the conductor takes them, and why it does not believe some."""

import difflib
from typing import Final

from batuta.conductor.decisions.events import Interface, StatusUpdate
from batuta.conductor.decisions.outcomes import HeardEvent
from batuta.conductor.decisions.rules import Arrival
from batuta.errors import printable, shortened
from batuta.graph import Graph
from batuta.messaging import (
    Activity,
    DataAvailable,
    DataEvent,
    DataWithdrawn,
    Delivery,
    Notification,
    Processing,
    subjects,
)
from batuta.messaging.processings import split_attempt_id
from batuta.sdb.lookup import ArchivedVersion
from batuta.stages import rank_of
from batuta.work_classes import WorkClass

MAX_ID_LENGTH: Final = 300
"""Characters of the id of an event that are recorded."""
MAX_PROBLEM_LENGTH: Final = 1000


class DataMessage:
    """A message of ``data.*``, and what is found to be wrong with it."""

    def __init__(self, delivery: Delivery[Notification], graph: Graph) -> None:
        read = delivery.event
        known = read.event is not None and graph.knows(read.event.product)
        self.delivery = delivery
        self.event = read.event if known else None
        self.problem = read.problem
        if read.event is not None and not known:
            self.problem = _unknown_product(graph, read.event)

    @property
    def told(self) -> DataEvent:
        """What it says; only of one that could be read."""
        if self.event is None:
            raise LookupError(self.problem)
        return self.event

    def arrival(self) -> Arrival:
        """Return what is available because of it."""
        told, time = self.told, self.delivery.event.time
        return Arrival(
            told.product,
            told.obs_id,
            told.version or 0,
            event_time=time,
            told_class=self.told_class,
            stage=_rank(told),
        )

    @property
    def told_class(self) -> WorkClass | None:
        """The class of work that it tells."""
        return self.told.work_class if isinstance(self.told, DataAvailable) else None

    def heard(self, found: ArchivedVersion | None = None) -> HeardEvent:
        """Return it as it is recorded, with the version that the sdb has `found`."""
        problem = self.problem
        if found is not None and found.withdrawn is not None and problem is None:
            problem = f"version {found.version} of {found.product} was withdrawn meanwhile"
        delivery, told = self.delivery, self.delivery.event.event
        version = told.version if told is not None else None
        return HeardEvent(
            # Bounded, and without what databases cannot store: anyone may publish anything.
            id=printable(delivery.event.id or "")[:MAX_ID_LENGTH]
            or f"{delivery.subject}#{delivery.sequence}",
            source=delivery.subject.partition(".")[2],
            received=delivery.stored,
            sequence=delivery.sequence,
            product=told.product if told is not None else None,
            obs_id=told.obs_id if told is not None else None,
            version=(found.version if found is not None else version) or 0,
            stage=_rank(told if found is None else found),
            problem=None if problem is None else printable(shortened(problem, MAX_PROBLEM_LENGTH)),
        )


def _rank(told: DataEvent | ArchivedVersion | None) -> int | None:
    """Return the rank of the stage that is told; None if none is."""
    stage = None if told is None or isinstance(told, DataWithdrawn) else told.stage
    return None if stage is None else rank_of(stage)


def speaks_for_itself(delivery: Delivery[Activity]) -> bool:
    """Return whether a report is on the subject of its service: others are not believed."""
    return delivery.subject == subjects.activity_subject(delivery.event.service.name)


def not_withdrawn(data: DataEvent) -> str:
    """Say that the sdb has not withdrawn what is said to be."""
    return f"{data.product} of {data.obs_id}: the sdb has not withdrawn version {data.version}"


def not_archived(data: DataEvent) -> str:
    """Say that the sdb does not hold what is said to be there."""
    version = f"version {data.version}" if data.version is not None else "a version"
    return f"{data.product} of {data.obs_id}: the sdb does not hold {version} of it"


def status_update(processing: Processing, reported_by: str) -> StatusUpdate:
    """Return what a service `reported_by` reports of a processing, as an event."""
    started = processing.started
    processing_id, attempt = split_attempt_id(processing.id)
    counts = attempt is None and "attempt" in processing.model_fields_set
    return StatusUpdate(
        processing_id=processing_id,
        state=processing.state,
        attempt=attempt or processing.attempt,
        interface=Interface.ATTEMPTS if counts else None,
        done=processing.progress.done,
        total=processing.progress.total,
        error=processing.error,
        started=started.timestamp() if started else None,
        profiled=processing.profile is not None,
        reported_by=reported_by,
        code=processing.code,
    )


def _unknown_product(graph: Graph, data: DataEvent) -> str:
    names = [*graph.inputs, *graph.products]
    close = difflib.get_close_matches(data.product, names, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"product {data.product!r} of {data.obs_id}: not in the graph{hint}"
