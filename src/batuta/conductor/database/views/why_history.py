"""What happened to a product of an observation: when, and who or what decided it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from pydantic import BaseModel

from batuta.conductor.database.claiming.claims import BY_HAND
from batuta.conductor.database.history import CONDUCTOR
from batuta.conductor.database.records import Row
from batuta.conductor.database.views.event_views import EventView
from batuta.conductor.database.views.observations import ConductorProcessing
from batuta.conductor.decisions.approvals import Question, Verdict, question_text
from batuta.conductor.decisions.holds import Hold
from batuta.conductor.decisions.outcomes import Outcome, tells_withdrawal
from batuta.messaging.processings import instant_of
from batuta.service.operators import UNNAMED


class Moment(BaseModel):
    """Something that happened: when, what, and who or what decided it.

    `by` is ``conductor``, an operator (``operator NAME``, with ``(claimed)`` where no token proves
    it), the source of an event, or a provider.
    """

    time: datetime
    what: str
    by: str
    event: str | None = None
    processing: str | None = None


def moments_of_processing(
    processing: ConductorProcessing, heard: Sequence[EventView], recorded: Sequence[Row]
) -> Iterator[Moment]:
    """Yield what happened to a processing, each of its attempts with its times."""
    made_by = next((row.by for row in recorded if row.what == BY_HAND), None)
    told = [row for row in recorded if row.what != BY_HAND]
    failed = {instant_of(row.at) for row in told}
    for moment in _of_processing(processing, heard, made_by):
        # A failure is recorded as such, unless that was dropped or is of before.
        if moment.time != processing.ended or moment.time not in failed:
            yield moment
    for row in told:
        # The times of its last attempt are those of the processing.
        if row.requested is not None and instant_of(row.requested) != processing.requested:
            yield from _of_attempt(row, processing)
        yield _of_record(row)


def _of_attempt(row: Row, processing: ConductorProcessing) -> Iterator[Moment]:
    """Yield when an attempt that has failed was requested, and started if it was."""
    started = None if row.started is None else instant_of(row.started)
    attempt = f"attempt {row.attempt} of {processing.max_attempts}"
    return _of_request(processing, attempt, instant_of(row.requested), started)


def _of_request(
    processing: ConductorProcessing,
    attempt: str,
    requested: datetime | None,
    started: datetime | None,
    graph: str = "",
) -> Iterator[Moment]:
    """Yield when an attempt was requested, under which version of the graph, and started."""
    if requested is not None:
        yield Moment(
            time=requested,
            what=f"requested from {processing.provider}, {attempt}" + (graph and f", {graph}"),
            by=CONDUCTOR,
            processing=processing.id,
        )
    if started is not None:
        yield Moment(
            time=started,
            what=f"{attempt} started",
            by=processing.provider,
            processing=processing.id,
        )


def moment_of_event(event: EventView, product: str) -> Moment:
    """Return that an event was received, and what that did for `product`."""
    version = f" version {event.version}" if event.version else ""
    stage = f" ({event.stage})" if event.stage is not None else ""
    told = f"{event.product}{version}{stage} was announced"
    if tells_withdrawal(event.reason):
        told = f"{event.product}{version} was withdrawn"
    elif product in event.triggered:
        told += f": it triggered {product}"
    elif product in event.waiting:
        told += f": {product} waited for {', '.join(event.waiting[product])}"
        told += f" ({event.reason})" if event.reason else ""
    elif event.outcome is Outcome.IGNORED:
        told += f", and ignored: {event.reason}"
    return Moment(time=event.received, what=told, by=f"data.{event.source}", event=event.id)


def _of_processing(
    processing: ConductorProcessing, heard: Sequence[EventView], made_by: str | None
) -> Iterator[Moment]:
    inputs = ", ".join(f"{name} v{n}" if n else name for name, n in processing.inputs.items())
    inputs += f" ({processing.stage})" if processing.stage is not None else ""
    caused = any(processing.id in each.triggered.values() for each in heard)
    operator = processing.by_hand
    by = (made_by or UNNAMED.label) if operator else "conductor"
    why = BY_HAND if operator else "claimed" + ("" if caused else " without an event")
    if processing.campaign is not None:
        why, by = f"made by campaign {processing.campaign}", f"campaign {processing.campaign}"
    version = processing.graph_version
    graph = "" if version is None else f"by version {version} of the graph"
    # Another version may have been put in force since it was claimed, and none since it was asked.
    waits = graph and processing.requested is None and processing.set_aside is None
    yield Moment(
        time=processing.created,
        what=f"{why}, from {inputs}" + (f", to be made {graph}" if waits else ""),
        by=by,
        processing=processing.id,
    )
    attempt = f"attempt {processing.attempt} of {processing.max_attempts}"
    yield from _of_request(processing, attempt, processing.requested, processing.started, graph)
    if processing.ended is not None:
        error = f": {processing.error}" if processing.error else ""
        yield Moment(
            time=processing.ended,
            what=f"{processing.state}{error}",
            by=processing.provider,
            processing=processing.id,
        )


def moments_of_hold(hold: Hold, processing: ConductorProcessing) -> Iterator[Moment]:
    """Yield since when a hold has kept a processing back, and that it was released."""
    began = max(instant_of(hold.begins), processing.created)
    reason = f": {hold.reason}" if hold.reason else ""
    yield Moment(
        time=began, what=f"held by {hold.name}{reason}", by=hold.by, processing=processing.id
    )
    if hold.released is not None and hold.released_by is not None:
        rate = f", its work let go at {hold.rate}" if hold.rate else ""
        reason = f": {hold.release_reason}" if hold.release_reason else ""
        yield Moment(
            time=instant_of(hold.released),
            what=f"hold {hold.number} was released{rate}{reason}",
            by=hold.released_by,
            processing=processing.id,
        )


def moments_of_question(asked: Question) -> Iterator[Moment]:
    """Yield what was asked about a version, and what was decided."""
    pending = replace(asked, state=Verdict.PENDING)
    detail = f"; {asked.detail}" if asked.detail else ""
    if asked.by != CONDUCTOR:
        yield Moment(
            time=instant_of(asked.since),
            what=f"{asked.product} {question_text(pending)}{detail}",
            by=CONDUCTOR,
            processing=asked.processing_id,
        )
    if asked.decided is not None:
        reason = f": {asked.reason}" if asked.reason else ""
        yield Moment(
            time=instant_of(asked.decided),
            what=f"{asked.product} version {asked.version} {asked.state}{reason}",
            by=asked.by or CONDUCTOR,
            processing=asked.processing_id,
        )


def _of_record(row: Row) -> Moment:
    reason = f": {row.reason}" if row.reason else ""
    return Moment(
        time=instant_of(row.at),
        what=f"{row.what}{reason}",
        by=row.by,
        processing=row.processing_id,
    )
