"""Read-only views: observations, processings, and why a product was or was not made."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field

from batuta.conductor.database.approvals.awaiting_versions import kept_back
from batuta.conductor.database.claiming.stage_records import read_staged_of
from batuta.conductor.database.current_graph import CurrentGraph, ReadsGraph
from batuta.conductor.database.lists import (
    Filter,
    ObservationOrder,
    decode_key,
    encode_key,
    list_observations,
    list_processings,
)
from batuta.conductor.database.records import MAX_IN, Row
from batuta.conductor.database.retention.dropped import DroppedObservation, read_dropped, rows_of
from batuta.conductor.database.schema import STALE, available, dropped, events
from batuta.conductor.database.schema import processings as table
from batuta.conductor.database.summaries import Counts, read_counts
from batuta.conductor.database.views.explanations import (
    answer_of_processing,
    answer_without_processing,
    near,
)
from batuta.conductor.decisions.answers import address
from batuta.conductor.decisions.approvals import Question, Verdict
from batuta.conductor.decisions.remaking import ProcessingEnd, coming, is_under_way
from batuta.conductor.decisions.rules import MANUAL
from batuta.conductor.decisions.stages import Staged, counted, rises_text
from batuta.conductor.decisions.staleness import (
    Available,
    Staleness,
    awaited_inputs,
    staleness_of,
)
from batuta.graph import Graph
from batuta.messaging import Processing, ProcessingState, Progress
from batuta.messaging.processings import instant_of
from batuta.service.client import ServiceError
from batuta.service.database import reading
from batuta.service.pagination import Page
from batuta.service.retention import archived_note
from batuta.stages import Stage, stage_of
from batuta.work_classes import WorkClass

MAX_ITEMS: Final = 1000


class ConductorProcessing(Processing):
    """A processing as the conductor records it.

    `by_hand` tells that an operator has asked for it, besides what was claimed; `campaign` is the
    number of the campaign that makes it.
    `stale_since` and `stale_because` tell that its product is available, and since when and why it
    is stale.
    `inputs` are the versions that it was claimed from, 0 where the source has no versions;
    `next_attempt` is when it is requested next, while it waits; `log` and `profile` are addresses
    at its provider. `pipeline_id` is what its provider calls the current attempt, if not its id;
    `instance` the address that it was sent to, if its provider has several. `graph_version` is that
    by which it was claimed or last decided about, null if that was before versions were recorded;
    `set_aside` is the one that does not make it from what is available, while it is cancelled for
    that; `held_by` is the number of the hold that keeps it back, or was the last to.
    """

    model_config = ConfigDict(populate_by_name=True)

    provider: str
    inputs: dict[str, int]
    max_attempts: int
    created: datetime
    requested: datetime | None = None
    next_attempt: datetime | None = None
    log: str | None = None
    pipeline_id: str | None = None
    instance: str | None = None
    by_hand: bool = False
    stale_since: datetime | None = None
    stale_because: str | None = None
    work_class: WorkClass = Field(WorkClass.LIVE, alias="class")
    priority: int = 0
    graph_version: int | None = None
    held_by: int | None = None
    campaign: int | None = None
    set_aside: int | None = None
    stage: Stage | None = None


class ProductView(BaseModel):
    """A product of one observation: available, being made, failed, or missing.

    `state` is ``available``, a processing's state, or ``missing`` with what it lacks; of one of
    which a version is there, but nothing is made of it, ``unapproved`` or ``refused``.
    `stale` tells why what is available is stale; None if it is not.
    """

    product: str
    state: str
    version: int | None = None
    stage: Stage | None = None
    processing: ConductorProcessing | None = None
    lacks: list[str] = []
    stale: str | None = None


class ObservationView(BaseModel):
    """An observation in brief: the number of products available, and of processings by state."""

    obs_id: str
    available: int
    processings: dict[str, int]
    last_news: datetime | None = None


class ObservationDetail(ObservationView):
    """An observation, with each product that the graph can make of what it has."""

    products: list[ProductView]


class Why(BaseModel):
    """Why a product of an observation was, or was not, made.

    `stages` are those that were told of what is available; `stale` tells why what is available is
    stale, and `awaits` names the inputs that are made again before it is made from them.
    """

    product: str
    obs_id: str
    answer: str
    lacks: list[str] = []
    stale: str | None = None
    awaits: list[str] = []
    available: dict[str, int] = {}
    stages: dict[str, Stage] = {}
    processings: list[ConductorProcessing] = []


class Following(BaseModel):
    """What follows from a version of a product, through the whole graph.

    `heard` tells whether the conductor has recorded that version, `since` when it last heard of the
    product; `done` tells whether nothing that follows is still to end. `open` has not ended, or its
    product is not announced yet.
    """

    heard: bool
    since: datetime | None
    done: bool
    open: list[ConductorProcessing]
    made: list[ConductorProcessing]
    failed: list[ConductorProcessing]


class Views(ReadsGraph):
    """Reads the conductor's database; never writes.

    Parameters
    ----------
    engine : sa.Engine
        Open, with the latest schema.
    graph : Graph or CurrentGraph
        The product graph, or what holds the one in force.
    url_of : callable
        Returns the address of a provider, or raises `ServiceError`.
    """

    def __init__(
        self,
        engine: sa.Engine,
        graph: Graph | CurrentGraph,
        url_of: Callable[[str], str],
    ) -> None:
        super().__init__(graph)
        self._engine = engine
        self._url_of = url_of

    def processing(self, processing_id: str) -> ConductorProcessing | None:
        """Return one processing; None if there is none of that id."""
        with reading(self._engine) as connection:
            row = connection.execute(
                sa.select(table).where(table.c.id == processing_id)
            ).one_or_none()
        return None if row is None else self.processing_of(row)

    def processings(
        self,
        filters: Mapping[str, Filter | None],
        limit: int,
        cursor: str | None,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        stale: bool = False,
    ) -> Page[ConductorProcessing]:
        """Return a page of processings, newest first; `filters` by the names of columns.

        `since` and `until`, which is excluded, are about when they were claimed. With `stale`, only
        those that made what is available and stale.

        Raises
        ------
        ValueError
            If `cursor` is none that a page had.
        """
        given = {name: value for name, value in filters.items() if value is not None}
        after = decode_key(cursor)
        with reading(self._engine) as connection:
            # One filter alone needs no choice.
            counts = read_counts(connection) if len(given) > 1 else Counts()
            times = [None if each is None else each.timestamp() for each in (since, until)]
            listing = list_processings(given, counts, *times, stale=stale)
            rows, following = listing.page(connection, limit, after)
        return Page(items=[self.processing_of(row) for row in rows], next=encode_key(following))

    def counts(self) -> Counts:
        """Return what is counted."""
        with reading(self._engine) as connection:
            return read_counts(connection)

    def stale_count(self) -> int:
        """Return how many products of observations are stale."""
        query = sa.select(sa.func.count()).select_from(table).where(sa.text(STALE))
        with reading(self._engine) as connection:
            return connection.scalar(query) or 0

    def observations(
        self,
        limit: int,
        cursor: str | None,
        order: ObservationOrder = ObservationOrder.OBS_ID,
        stage: Stage | None = None,
    ) -> Page[ObservationView]:
        """Return a page of observations; with `stage`, of which a product is available so.

        Raises
        ------
        ValueError
            If `cursor` is none that a page in this order had.
        """
        by_name = order is ObservationOrder.OBS_ID
        after = (cursor or "",) if by_name else decode_key(cursor)
        with reading(self._engine) as connection:
            rows, following = list_observations(order, stage).page(connection, limit, after)
            states = _states(connection, [row.obs_id for row in rows])
        items = [
            ObservationView(
                obs_id=row.obs_id,
                available=row.available,
                processings=states.get(row.obs_id, {}),
                last_news=_time(row.last_news),
            )
            for row in rows
        ]
        if by_name:
            return Page(items=items, next=following[0] if following is not None else None)
        return Page(items=items, next=encode_key(following))

    def observation(self, obs_id: str) -> ObservationDetail | None:
        """Return one observation; None if it has no product and no processing."""
        with self._current.one_moment(self._engine), reading(self._engine) as connection:
            products, rows, _ = _of_observation(connection, obs_id)
            if not products and not rows:
                return None
            versions = {row.product: row.version for row in products}
            kept = kept_back(connection, self._graph, obs_id, versions)
            staged = read_staged_of(connection, obs_id, products)
            views = self._products(versions, rows, kept, staged)
        states = [row.state for row in rows]
        return ObservationDetail(
            obs_id=obs_id,
            available=len(products),
            processings={state: states.count(state) for state in dict.fromkeys(states)},
            last_news=_time(max((row.heard for row in products), default=None)),
            products=views,
        )

    def following(self, product: str, obs_id: str, version: int) -> Following:
        """Return what follows from a version of a product; the graph knows the product."""
        with self._current.one_moment(self._engine), reading(self._engine) as connection:
            was_told = _was_told(connection, product, obs_id, version)
            arrived, rows, _ = _of_observation(connection, obs_id)
            after = self._graph.after(product)
        heard = {row.product: (row.version, row.heard) for row in arrived}
        known, since = heard.get(product, (-1, 0.0))
        is_heard = known >= version or was_told
        latest = {row.product: row for row in rows if row.product in after}
        parts: dict[str, list[Row]] = {"open": [], "made": [], "failed": []}
        for row in latest.values():
            part = _part_of(row, since, heard.get(row.product))
            # What ended before the version was heard of does not follow from it.
            if part == "open" or (part is not None and is_heard):
                parts[part].append(row)
        return Following(
            heard=is_heard,
            since=_time(since or None),
            done=is_heard and not parts["open"],
            **{part: [self.processing_of(row) for row in found] for part, found in parts.items()},
        )

    def why(self, product: str, obs_id: str) -> Why:
        """Explain why `product` of `obs_id` was, or was not, made. The graph has `product`."""
        with self._current.one_moment(self._engine), reading(self._engine) as connection:
            return self._why(connection, product, obs_id)

    def _why(self, connection: sa.Connection, product: str, obs_id: str) -> Why:
        arrived, all_rows, kept = _of_observation(connection, obs_id)
        versions = {row.product: row.version for row in arrived}
        kept_versions = kept_back(connection, self._graph, obs_id, versions)
        staged = read_staged_of(connection, obs_id, arrived)
        hint = "" if versions or all_rows else near(connection, obs_id)
        definition = self._graph.products.get(product)
        rises = None if definition is None else rises_text(definition, versions, staged)
        rows = [row for row in all_rows if row.product == product]
        staleness = self._staleness(arrived, all_rows, staged)
        awaits = () if definition is None else awaited_inputs(definition, staleness)
        if definition is not None and not rows:
            made_first = self._being_made(arrived, all_rows)
            awaits = tuple(
                name
                for name in definition.m_input
                if name in awaits or (name in made_first and name in versions)
            )
        stale = staleness.because.get(product)
        return Why(
            product=product,
            obs_id=obs_id,
            stale=stale,
            awaits=list(awaits),
            answer=(
                answer_of_processing(product, rows[-1], kept_versions) + _archived(kept, rows[-1])
                if rows
                else answer_without_processing(
                    product, versions, all_rows, self._graph, kept_versions, staged
                )
                + hint
            )
            + (f"; {rises}" if rises else "")
            + (f"; it is stale: {stale}" if stale else "")
            + (f"; it waits for {', '.join(awaits)}, made again first" if awaits else ""),
            lacks=self._lacks(product, versions, staged),
            available=versions,
            stages={row.product: stage_of(row.stage) for row in arrived if row.stage is not None},
            processings=[self.processing_of(row) for row in rows],
        )

    def was_asked_for(self, product: str, obs_id: str) -> bool:
        """Return whether there is a processing of a product, which the graph may not have now."""
        query = sa.select(table.c.id).where(table.c.obs_id == obs_id, table.c.product == product)
        with reading(self._engine) as connection:
            return connection.scalar(query.limit(1)) is not None

    def _staleness(
        self, arrived: Iterable[Row], rows: Iterable[Row], staged: Staged | None
    ) -> Staleness:
        inputs = {row.id: row.inputs for row in rows}
        return staleness_of(
            self._graph,
            {
                each.product: Available(
                    each.version if each.content is None else each.content,
                    inputs.get(each.made_by, {}),
                )
                for each in arrived
            },
            staged,
        )

    def _being_made(self, arrived: Iterable[Row], rows: Iterable[Row]) -> Collection[str]:
        """Return the products of which a version is to come, by what is under way."""
        heard, now = {row.product: row.heard for row in arrived}, time.time()
        under_way = {
            row.product
            for row in rows
            if is_under_way(
                ProcessingEnd(
                    state=ProcessingState(row.state),
                    requested=row.requested,
                    ended=row.ended,
                    heard=heard.get(row.product),
                ),
                now,
            )
        }
        return coming(self._graph, under_way, heard)

    def first_heard(self, obs_id: str) -> float | None:
        """Return when the first of what is available of an observation was heard of."""
        since = sa.func.min(sa.func.coalesce(available.c.since, available.c.heard))
        with reading(self._engine) as connection:
            found = connection.scalar(sa.select(since).where(available.c.obs_id == obs_id))
        return None if found is None else float(found)

    def staged(self, obs_id: str) -> Staged | None:
        """Return what is known of the stages of an observation; None if none was told."""
        query = sa.select(available).where(available.c.obs_id == obs_id)
        with reading(self._engine) as connection:
            return read_staged_of(connection, obs_id, connection.execute(query).all())

    def has_dropped(self) -> bool:
        """Return whether records were dropped that may be asked for."""
        with reading(self._engine) as connection:
            return connection.scalar(sa.select(dropped.c.obs_id).limit(1)) is not None

    def processing_of(self, row: Row) -> ConductorProcessing:
        """Return a row as REST shows it."""
        state = ProcessingState(row.state)
        waits = state in (ProcessingState.WAITING, ProcessingState.RETRYING)
        return ConductorProcessing(
            id=row.id,
            product=row.product,
            obs_id=row.obs_id,
            state=state,
            attempt=row.attempt,
            progress=Progress(done=row.done, total=row.total),
            error=row.error,
            started=_time(row.started),
            ended=_time(row.ended),
            provider=row.provider,
            inputs=row.inputs,
            max_attempts=row.max_attempts,
            created=instant_of(row.created),
            requested=_time(row.requested),
            next_attempt=_time(row.not_before) if waits else None,
            log=self._address(row, "log") if row.requested is not None else None,
            profile=self._address(row, "profile") if row.profiled else None,
            code=row.code,
            pipeline_id=row.pipeline_id,
            instance=row.instance,
            by_hand=row.claim.startswith(MANUAL),
            stale_since=_time(row.stale_since),
            stale_because=row.stale_because,
            work_class=WorkClass(row.work_class),
            priority=row.priority,
            graph_version=row.graph_version,
            held_by=row.held_by,
            campaign=row.campaign,
            set_aside=row.set_aside,
            stage=None if row.stage is None else stage_of(row.stage),
        )

    def _address(self, row: Row, part: str) -> str | None:
        """Return the address of its log or profile, at its pipeline."""
        try:
            instance = row.instance or self._url_of(row.provider)
            return f"{address(instance, row.pipeline_id or row.id)}/{part}"
        except ServiceError:  # the graph no longer has this provider
            return None

    def _products(
        self,
        versions: Mapping[str, int],
        rows: Iterable[Row],
        kept: Mapping[str, Question],
        staged: Staged | None,
    ) -> list[ProductView]:
        rows = list(rows)
        latest = {row.product: row for row in rows}
        stale = {row.product: row.stale_because for row in rows if row.stale_because}
        views = []
        for level in self._graph.levels():
            for name in level:
                row = latest.get(name)
                if name not in versions and name not in self._graph.products:
                    continue
                view = self._product(name, versions, row, staged)
                view = view.model_copy(update={"stale": stale.get(name)})
                views.append(_kept_back(view, kept[name]) if name in kept else view)
        return views

    def _product(
        self, name: str, versions: Mapping[str, int], row: Row | None, staged: Staged | None
    ) -> ProductView:
        processing = None if row is None else self.processing_of(row)
        if name in versions and (processing is None or processing.state.ended):
            rank = staged.ranks.get(name) if staged is not None else None
            return ProductView(
                product=name,
                state="available",
                version=versions[name] or None,
                stage=None if rank is None else stage_of(rank),
                processing=processing,
            )
        if processing is not None:
            return ProductView(product=name, state=processing.state, processing=processing)
        return ProductView(product=name, state="missing", lacks=self._lacks(name, versions, staged))

    def _lacks(self, product: str, versions: Mapping[str, int], staged: Staged | None) -> list[str]:
        definition = self._graph.products.get(product)
        if definition is None:
            return []
        return list(self._graph.missing_for(product, counted(definition, versions, staged)))


def _was_told(connection: sa.Connection, product: str, obs_id: str, version: int) -> bool:
    """Return whether an event told of a version, which is not available if its stage is too low."""
    query = sa.select(events.c.sequence).where(
        events.c.obs_id == obs_id, events.c.product == product, events.c.version == version
    )
    return connection.scalar(query.limit(1)) is not None


def _of_observation(
    connection: sa.Connection, obs_id: str
) -> tuple[list[Row], list[Row], DroppedObservation | None]:
    """Return what is available of an observation, its processings (the oldest first), what stays.

    The last is None unless its records were dropped; the others are of what stays of them then.
    """
    arrived = list(connection.execute(sa.select(available).where(available.c.obs_id == obs_id)))
    query = sa.select(table).where(table.c.obs_id == obs_id).order_by(table.c.created)
    rows = list(connection.execute(query))
    if not arrived and not rows:
        kept = read_dropped(connection, [obs_id]).get(obs_id)
        if kept is not None:
            return *rows_of(kept), kept
    return arrived, rows, None


def _kept_back(view: ProductView, asked: Question) -> ProductView:
    """Return the view of a product of which a newer version waits for a person, or was refused."""
    waits = view.processing is None or view.processing.state.ended
    if view.state == "available" or not waits:
        return view
    state = "unapproved" if asked.state is Verdict.PENDING else "refused"
    return view.model_copy(update={"state": state, "version": int(asked.version)})


def _archived(kept: DroppedObservation | None, row: Row) -> str:
    """Return when the record of a processing was dropped, and where it went; may be empty."""
    found = kept.find(row.id) if kept is not None else None
    if kept is None or found is None:
        return ""
    return f"; {archived_note(kept.archived, found.file)}"


def _part_of(row: Row, since: float, arrival: tuple[int, float] | None) -> str | None:
    """Return whether a processing is open, made or failed; None if it ended before `since`."""
    state = ProcessingState(row.state)
    if not state.ended:
        return "open"
    if state is ProcessingState.SUCCEEDED and (
        arrival is None or arrival[1] < (row.requested or row.created)
    ):
        # Its product is archived, but what follows from it is claimed once that is announced.
        return "open"
    if (row.ended or 0.0) < since:
        return None
    return "made" if state is ProcessingState.SUCCEEDED else "failed"


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else instant_of(seconds)


def _states(connection: sa.Connection, names: Sequence[str]) -> dict[str, Counter[str]]:
    """Count the processings of observations by state."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for start in range(0, len(names), MAX_IN):
        query = sa.select(table.c.obs_id, table.c.state).where(
            table.c.obs_id.in_(names[start : start + MAX_IN])
        )
        for obs_id, state in connection.execute(query):
            found[obs_id][state] += 1
    return found
