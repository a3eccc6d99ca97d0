"""Why a product of an observation was, or was not, made: from the record, as data and in words."""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from pydantic import BaseModel

from batuta.conductor.database.approvals.awaiting_versions import kept_back, versions_asked
from batuta.conductor.database.claiming.claims import BY_HAND
from batuta.conductor.database.history import CONDUCTOR, read_history
from batuta.conductor.database.holds.held_work import hold_of
from batuta.conductor.database.records import Row
from batuta.conductor.database.schema import holds as hold_table
from batuta.conductor.database.views.campaign_views import CampaignMention, CampaignViews
from batuta.conductor.database.views.event_views import EventView, EventViews
from batuta.conductor.database.views.late_views import DeadlineView, LateViews
from batuta.conductor.database.views.observations import ConductorProcessing, Why
from batuta.conductor.database.views.provider_views import ProviderViews, circuit_lines
from batuta.conductor.decisions.approvals import Question, Verdict, question_text
from batuta.conductor.decisions.causes import (
    Cause,
    Facts,
    KnownProcessing,
    Situation,
    cause_of,
    consequences,
    in_words,
    remedies,
)
from batuta.conductor.decisions.holds import Hold
from batuta.conductor.decisions.outcomes import Outcome
from batuta.messaging import ProcessingState as State
from batuta.messaging.processings import instant_of
from batuta.service.database import reading
from batuta.service.operators import UNNAMED

MAX_EVENTS: Final = 200
"""Events of an observation that are looked at."""


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


class CauseView(BaseModel):
    """How a product is; of one that is not there, what it lacks, back to the causes."""

    product: str
    situation: Situation
    maker: str | None
    since: datetime | None
    detail: str | None
    processing: str | None
    lacks: list["CauseView"]


class ConsequenceView(BaseModel):
    """A product that is made from this one, and what it lacks besides."""

    product: str
    available: bool
    lacks: list[str]


class WhyDetail(Why):
    """Why a product of an observation was, or was not, made.

    `deadline` is by when it was to be there, while it is not; `campaigns` those that are to make it
    or did not; `history` what happened to it, the
    earliest first; `cause` how it is and why; `needs` what would make it, if it is not there;
    `triggers` what is made from it; `circuits` the providers that keep it waiting since they keep
    failing, a line each; `words` all of it, for people, a line each.
    """

    deadline: DeadlineView | None
    campaigns: list[CampaignMention]
    history: list[Moment]
    cause: CauseView
    needs: list[str]
    triggers: list[ConsequenceView]
    circuits: list[str]
    words: list[str]


class WhyViews:
    """Explains from the record; never writes.

    Parameters
    ----------
    events : EventViews
        What was received.
    late : LateViews
        What was due.
    providers : ProviderViews, optional
        Which providers are left alone.
    """

    def __init__(
        self, events: EventViews, late: LateViews, providers: ProviderViews | None = None
    ) -> None:
        self._providers = providers
        self._late = late
        self._campaigns = CampaignViews(events.engine)
        self._events = events
        self._views = events.views
        self._graph = events.graph

    def why(self, product: str, obs_id: str) -> WhyDetail:
        """Explain why `product` of `obs_id` was, or was not, made. The graph has `product`."""
        why = self._views.why(product, obs_id)
        facts = self._facts(obs_id, why.available)
        if why.processings:  # also of what the graph does not have any more
            newest = {product: _known(why.processings[-1])}
            facts = replace(facts, processings={**newest, **facts.processings})
        heard = self._events.page({"obs_id": obs_id}, None, None, MAX_EVENTS, None).items
        cause = cause_of(self._graph, product, facts)
        held = facts.processings[product].hold if product in facts.processings else None
        if held is not None:
            why.answer += f"; kept back by {held.words()}"
        there = product in facts.versions
        detail = WhyDetail(
            **why.model_dump(),
            deadline=self._late.deadline(product, obs_id),
            history=self._history(product, obs_id, why.processings, heard),
            campaigns=self._campaigns.mentions(product, obs_id),
            cause=_cause_view(cause),
            needs=_needs(why, cause),
            triggers=[
                ConsequenceView(product=each.product, available=each.available, lacks=[*each.lacks])
                for each in consequences(self._graph, product, facts)
            ],
            circuits=self._circuits(cause),
            words=[],
        )
        detail.words = [*_words(detail, cause, there=there)]
        return detail

    def _circuits(self, cause: Cause) -> list[str]:
        """Say which providers are left alone of those that have something to make, and by when."""
        makers = {
            each.maker
            for each in _all_causes(cause)
            if each.maker is not None and each.situation in _AT_MAKER
        }
        if not makers or self._providers is None:
            return []
        return [*circuit_lines(self._providers.open_at(makers))]

    def _facts(self, obs_id: str, versions: Mapping[str, int]) -> Facts:
        observation = self._views.observation(obs_id)
        products = observation.products if observation is not None else []
        made = [each.processing for each in products if each.processing is not None]
        holds = self._holds(made)
        return Facts(
            obs_id=obs_id,
            versions=versions,
            processings={
                each.product: replace(
                    _known(each), hold=holds.get(each.held_by) if each.state == State.HELD else None
                )
                for each in made
            },
            since=self._views.first_heard(obs_id),
            now=time.time(),
            asked=self._kept_back(obs_id, versions),
            staged=self._views.staged(obs_id),
        )

    def _holds(self, processings: Iterable[ConductorProcessing]) -> dict[int | None, Hold]:
        """Return the holds that keep some of the processings back, or were the last to."""
        numbers = {each.held_by for each in processings if each.held_by is not None}
        if not numbers:
            return {}
        query = sa.select(hold_table).where(hold_table.c.number.in_(numbers))
        with reading(self._events.engine) as connection:
            return {row.number: hold_of(row) for row in connection.execute(query)}

    def _kept_back(self, obs_id: str, versions: Mapping[str, int]) -> dict[str, Question]:
        with reading(self._events.engine) as connection:
            return kept_back(connection, self._graph, obs_id, versions)

    def _recorded(self, obs_id: str, ids: Collection[str]) -> list[Moment]:
        with reading(self._events.engine) as connection:
            rows = read_history(connection, obs_id)
        return [_of_record(row) for row in rows if row.processing_id in ids]

    def _asked(self, obs_id: str, about: Collection[str]) -> Iterator[Moment]:
        """Yield what was asked about versions, and decided."""
        if not self._graph.asking:
            return
        with reading(self._events.engine) as connection:
            asked = versions_asked(connection, obs_id)
        for each in asked:
            if each.product in about:
                yield from _of_question(each)

    def _history(
        self,
        product: str,
        obs_id: str,
        processings: Iterable[ConductorProcessing],
        heard: Sequence[EventView],
    ) -> list[Moment]:
        definition = self._graph.products.get(product)
        about = {product, *(definition.sources if definition is not None else ())}
        moments = [_of_event(each, product) for each in heard if each.product in about]
        of_product = list(processings)
        moments += self._asked(obs_id, about)
        recorded: list[Moment] = []
        if of_product:
            recorded = self._recorded(obs_id, {each.id for each in of_product})
        made_by = {each.processing: each.by for each in recorded if each.what == BY_HAND}
        for each in of_product:
            told = {moment.time for moment in recorded if moment.processing == each.id}
            # A failure is recorded as such, unless that was dropped or is of before.
            known = _of_processing(each, heard, made_by.get(each.id))
            moments += [moment for moment in known if not _told(moment, each, told)]
        moments += [each for each in recorded if each.what != BY_HAND]
        holds = self._holds(of_product)
        for each in of_product:
            if each.held_by in holds:
                moments += _of_hold(holds[each.held_by], each)
        return sorted(moments, key=lambda moment: moment.time)


def _needs(why: Why, cause: Cause) -> list[str]:
    if cause.situation is not Situation.AVAILABLE:
        return [*remedies(cause, why.obs_id)]
    if why.stale is None:
        return []
    after = f", once {', '.join(why.awaits)} is made again" if why.awaits else ""
    return [f"batuta make {why.product} {why.obs_id}: again, from what is available{after}"]


def _told(moment: Moment, processing: ConductorProcessing, told: Collection[datetime]) -> bool:
    return moment.time == processing.ended and moment.time in told


def _of_question(asked: Question) -> Iterator[Moment]:
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


def _known(processing: ConductorProcessing) -> KnownProcessing:
    latest = processing.ended or processing.requested or processing.created
    following = processing.next_attempt
    return KnownProcessing(
        id=processing.id,
        state=State(processing.state),
        attempt=processing.attempt,
        max_attempts=processing.max_attempts,
        error=processing.error,
        since=latest.timestamp(),
        not_before=None if following is None else following.timestamp(),
        set_aside=processing.set_aside,
    )


def _of_event(event: EventView, product: str) -> Moment:
    version = f" version {event.version}" if event.version else ""
    stage = f" ({event.stage})" if event.stage is not None else ""
    told = f"{event.product}{version}{stage} was announced"
    if product in event.triggered:
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
    attempts = f"attempt {processing.attempt} of {processing.max_attempts}"
    if processing.requested is not None:
        yield Moment(
            time=processing.requested,
            what=f"requested from {processing.provider}, {attempts}" + (graph and f", {graph}"),
            by="conductor",
            processing=processing.id,
        )
    if processing.started is not None:
        yield Moment(
            time=processing.started,
            what=f"{attempts} started",
            by=processing.provider,
            processing=processing.id,
        )
    if processing.ended is not None:
        error = f": {processing.error}" if processing.error else ""
        yield Moment(
            time=processing.ended,
            what=f"{processing.state}{error}",
            by=processing.provider,
            processing=processing.id,
        )


def _of_hold(hold: Hold, processing: ConductorProcessing) -> Iterator[Moment]:
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


def _cause_view(cause: Cause) -> CauseView:
    return CauseView(
        product=cause.product,
        situation=cause.situation,
        maker=cause.maker,
        since=None if cause.since is None else instant_of(cause.since),
        detail=cause.detail,
        processing=cause.processing_id,
        lacks=[_cause_view(each) for each in cause.lacks],
    )


_AT_MAKER: Final = frozenset({Situation.BEING_MADE, Situation.RETRYING})


def _all_causes(cause: Cause) -> Iterator[Cause]:
    waiting = [cause]
    for each in waiting:  # grows as it goes
        waiting += each.lacks
        yield each


def _words(detail: WhyDetail, cause: Cause, *, there: bool) -> Iterator[str]:
    yield detail.answer
    if detail.deadline is not None:
        yield f"  {detail.deadline.words()}"
    for mention in detail.campaigns:
        yield f"  {mention.words()}"
    if detail.history:
        yield "what happened:"
    for moment in detail.history:
        yield f"  {moment.time:%Y-%m-%d %H:%M:%S} {moment.by}: {moment.what}"
    if cause.situation is not Situation.AVAILABLE:
        since = f", since {instant_of(cause.since):%Y-%m-%d %H:%M:%S}" if cause.since else ""
        yield f"how it is{since}:"
        for depth, line in in_words(cause):
            yield f"  {'  ' * depth}{line}"
        yield from (f"  {each}" for each in detail.circuits)
        yield "what would make it:"
        yield from (f"  {each}" for each in detail.needs)
    elif detail.needs:
        yield "what would make it anew:"
        yield from (f"  {each}" for each in detail.needs)
    if detail.triggers:
        yield "made from it:" if there else "to be made from it:"
    for each in detail.triggers:
        lacks = f", lacks besides {', '.join(each.lacks)}" if each.lacks else ""
        yield f"  {each.product}" + (": available" if each.available else lacks)
