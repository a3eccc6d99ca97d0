"""Why a product of an observation was, or was not, made: from the record, as data and in words."""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from pydantic import BaseModel

from batuta.conductor.database.approvals.awaiting_versions import kept_back, versions_asked
from batuta.conductor.database.history import read_history
from batuta.conductor.database.holds.held_work import hold_of, open_holds
from batuta.conductor.database.records import Row
from batuta.conductor.database.schema import holds as hold_table
from batuta.conductor.database.views.campaign_views import CampaignMention, CampaignViews
from batuta.conductor.database.views.event_views import EventView, EventViews
from batuta.conductor.database.views.late_views import DeadlineView, LateViews
from batuta.conductor.database.views.observations import ConductorProcessing, Why
from batuta.conductor.database.views.provider_views import ProviderViews, circuit_lines
from batuta.conductor.database.views.why_history import (
    Moment,
    moment_of_event,
    moments_of_hold,
    moments_of_processing,
    moments_of_question,
)
from batuta.conductor.decisions.approvals import Question
from batuta.conductor.decisions.causes import (
    APPROVAL_WORDS,
    Cause,
    Facts,
    KnownProcessing,
    Situation,
    cause_of,
    consequences,
    in_words,
    remedies,
)
from batuta.conductor.decisions.circuits import Circuit
from batuta.conductor.decisions.holds import Hold, holding
from batuta.graph import Approval, Graph
from batuta.messaging import ProcessingState as State
from batuta.messaging.processings import instant_of
from batuta.service.database import reading

MAX_EVENTS: Final = 200
"""Events of an observation that are looked at."""


class CauseView(BaseModel):
    """How a product is; of one that is not there, what it lacks, back to the causes.

    `approval` is ``before`` or ``after`` of one that will wait for a person before or after it is
    made, and does not yet.
    """

    product: str
    situation: Situation
    maker: str | None
    since: datetime | None
    detail: str | None
    processing: str | None
    approval: Approval | None
    lacks: list["CauseView"]


class ConsequenceView(BaseModel):
    """A product that is made from this one, and what it lacks besides.

    `approval` is ``before`` or ``after`` where it waits for a person.
    """

    product: str
    available: bool
    lacks: list[str]
    approval: Approval | None


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

    @property
    def _graph(self) -> Graph:
        return self._events.graph

    def why(self, product: str, obs_id: str) -> WhyDetail:
        """Explain why `product` of `obs_id` was, or was not, made. The graph has `product`.

        All that it says is of one moment.
        """
        with self._events.one_moment():
            return self._why(product, obs_id)

    def _why(self, product: str, obs_id: str) -> WhyDetail:
        why = self._views.why(product, obs_id)
        facts = self._facts(obs_id, why.available)
        if why.processings:  # also of what the graph does not have any more
            newest = {product: _known(why.processings[-1])}
            facts = replace(facts, processings={**newest, **facts.processings})
        heard = self._events.page({"obs_id": obs_id}, None, None, MAX_EVENTS, None).items
        cause = cause_of(self._graph, product, facts)
        processing = facts.processings.get(product)
        if processing is not None and processing.hold is not None:
            kept = "kept back by" if processing.state is State.HELD else "once approved, held by"
            why.answer += f"; {kept} {processing.hold.words()}"
        there = product in facts.versions
        open_circuits = self._open_circuits(cause)
        detail = WhyDetail(
            **why.model_dump(),
            deadline=self._late.deadline(product, obs_id),
            history=self._history(product, obs_id, why.processings, heard),
            campaigns=self._campaigns.mentions(product, obs_id),
            cause=_cause_view(cause),
            needs=[*_needs(why, cause), *map(_recovery, open_circuits)],
            triggers=[
                ConsequenceView(
                    product=each.product,
                    available=each.available,
                    lacks=[*each.lacks],
                    approval=each.approval,
                )
                for each in consequences(self._graph, product, facts)
            ],
            circuits=[*circuit_lines(open_circuits)],
            words=[],
        )
        detail.words = [*_words(detail, cause, there=there)]
        return detail

    def _open_circuits(self, cause: Cause) -> list[Circuit]:
        """Return how the providers are that have something to make, and are left alone."""
        makers = {
            each.maker
            for each in _all_causes(cause)
            if each.maker is not None and each.situation in _AT_MAKER
        }
        if not makers or self._providers is None:
            return []
        return self._providers.open_at(makers)

    def _facts(self, obs_id: str, versions: Mapping[str, int]) -> Facts:
        observation = self._views.observation(obs_id)
        products = observation.products if observation is not None else []
        made = [each.processing for each in products if each.processing is not None]
        now = time.time()
        kept_back_by = self._kept_back_by(made, now)
        return Facts(
            obs_id=obs_id,
            versions=versions,
            processings={
                each.product: replace(_known(each), hold=kept_back_by.get(each.id)) for each in made
            },
            since=self._views.first_heard(obs_id),
            now=now,
            asked=self._kept_back(obs_id, versions),
            staged=self._views.staged(obs_id),
        )

    def _kept_back_by(
        self, processings: Sequence[ConductorProcessing], now: float
    ) -> dict[str, Hold]:
        """Return, by processings, what holds them, or would once a person has approved them."""
        holds = self._holds(processings)
        found = {
            each.id: holds.get(each.held_by) for each in processings if each.state == State.HELD
        }
        unapproved = [each for each in processings if each.state == State.UNAPPROVED]
        if unapproved:
            with reading(self._events.engine) as connection:
                not_ended = open_holds(connection)
            found |= {each.id: holding(not_ended, each, now) for each in unapproved}
        return {name: hold for name, hold in found.items() if hold is not None}

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

    def _recorded(self, obs_id: str, ids: Collection[str]) -> list[Row]:
        with reading(self._events.engine) as connection:
            rows = read_history(connection, obs_id)
        return [row for row in rows if row.processing_id in ids]

    def _asked(self, obs_id: str, about: Collection[str]) -> Iterator[Moment]:
        """Yield what was asked about versions, and decided."""
        if not self._graph.asking:
            return
        with reading(self._events.engine) as connection:
            asked = versions_asked(connection, obs_id)
        for each in asked:
            if each.product in about:
                yield from moments_of_question(each)

    def _history(
        self,
        product: str,
        obs_id: str,
        processings: Iterable[ConductorProcessing],
        heard: Sequence[EventView],
    ) -> list[Moment]:
        definition = self._graph.products.get(product)
        about = {product, *(definition.sources if definition is not None else ())}
        moments = [moment_of_event(each, product) for each in heard if each.product in about]
        of_product = list(processings)
        moments += self._asked(obs_id, about)
        recorded: list[Row] = []
        if of_product:
            recorded = self._recorded(obs_id, {each.id for each in of_product})
        for each in of_product:
            rows = [row for row in recorded if row.processing_id == each.id]
            moments += moments_of_processing(each, heard, rows)
        holds = self._holds(of_product)
        for each in of_product:
            if each.held_by in holds:
                moments += moments_of_hold(holds[each.held_by], each)
        return sorted(moments, key=lambda moment: moment.time)


def _recovery(circuit: Circuit) -> str:
    return (
        f"the recovery of {circuit.provider}, which is tried by itself; or, at once, "
        f"batuta providers --close {circuit.provider}"
    )


def _needs(why: Why, cause: Cause) -> list[str]:
    if cause.situation is not Situation.AVAILABLE:
        return [*remedies(cause, why.obs_id)]
    if why.stale is None:
        return []
    after = f", once {', '.join(why.awaits)} is made again" if why.awaits else ""
    return [f"batuta make {why.product} {why.obs_id}: again, from what is available{after}"]


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


def _cause_view(cause: Cause) -> CauseView:
    return CauseView(
        product=cause.product,
        situation=cause.situation,
        maker=cause.maker,
        since=None if cause.since is None else instant_of(cause.since),
        detail=cause.detail,
        processing=cause.processing_id,
        approval=cause.approval,
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
        lacks += "" if each.approval is None else f", {APPROVAL_WORDS[each.approval]}"
        yield f"  {each.product}" + (": available" if each.available else lacks)
