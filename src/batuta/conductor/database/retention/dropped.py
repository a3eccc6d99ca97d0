"""What stays of an observation whose records were dropped, so that nothing of it is made again.

One compressed row has all that a decision could depend on: the versions that were available, and
of each processing its claim, the versions of its inputs, how it ended and at which attempt. An
event that tells nothing new (a notification that is repeated, or replayed from the start of its
stream) is recognised by that row alone. News (a newer version, a product that the graph did not
have) puts the rows back first, in the same transaction, and is then decided as if they had never
been dropped.
"""

import json
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, cast

import sqlalchemy as sa

from batuta.conductor.database.current_graph import ReadsGraph
from batuta.conductor.database.records import MAX_IN, Row
from batuta.conductor.database.schema import available, dropped
from batuta.conductor.database.schema import processings as table
from batuta.conductor.database.statements import DROPPED_OF
from batuta.conductor.decisions.events import Archived
from batuta.conductor.decisions.failures import kind_of_error
from batuta.conductor.decisions.rules import Arrival, claims_for, order_of, processing_id_of
from batuta.conductor.decisions.stages import Reached, Staged
from batuta.graph import Graph
from batuta.messaging import ProcessingState as State
from batuta.service.database import insert
from batuta.stages import FINAL_RANK
from batuta.work_classes import WorkClass


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedProcessing:
    """What stays of a processing: the columns that decisions and explanations depend on.

    Times are seconds since 1970, to the millisecond. `file` is that of the archive which has its
    record, None if none has.
    """

    id: str
    product: str
    obs_id: str
    claim: str
    inputs: Mapping[str, int]
    provider: str
    priority: int
    state: State
    attempt: int
    pipeline_attempt: int
    max_attempts: int
    timeout_s: float
    error: str | None = None
    created: float
    requested: float | None = None
    ended: float
    remake: bool
    pipeline_id: str | None = None
    interface: str | None = None
    work_class: str = WorkClass.LIVE.value
    told_class: str | None = None
    told_priority: int | None = None
    graph_version: int | None = None
    set_aside: int | None = None
    instance: str | None = None
    campaign: int | None = None
    stage: int | None = None
    stale_since: float | None = None
    stale_because: str | None = None
    stale_told: float | None = None
    withdrawn_input: str | None = None
    file: str | None = None

    def as_row(self) -> dict[str, Any]:
        """Return it as a row of the table of processings."""
        values = {name: getattr(self, name) for name in _KEPT}
        return {
            **values,
            "error_kind": kind_of_error(self.error, (self.id, self.obs_id)),
            "inputs": dict(self.inputs),
            "not_before": self.created,
            "ask_at": self.created,
            "done": 0,
            "total": 0,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedVersion:
    """What stays of a product that was available, and when it was last heard of."""

    version: int
    archived: bool
    heard: float
    stage: int | None = None
    made_by: str | None = None
    sha256: str | None = None
    content: int | None = None
    updates: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedObservation:
    """What stays of an observation.

    Attributes
    ----------
    archived : float
        When its records were dropped, in seconds since 1970.
    file : str or None
        The file of the archive that they are in; None if they are in none.
    live : bool
        Whether its rows have been put back since.
    versions : mapping
        What was available, by product.
    processings : sequence of DroppedProcessing
        All of them, the oldest first.
    """

    obs_id: str
    archived: float
    file: str | None
    live: bool = False
    versions: Mapping[str, DroppedVersion]
    processings: Sequence[DroppedProcessing]

    def find(self, processing_id: str) -> DroppedProcessing | None:
        """Return what stays of one processing."""
        return next((each for each in self.processings if each.id == processing_id), None)

    def is_news(self, arrival: Arrival) -> bool:
        """Return whether an arrival, of this observation, replaces what was available."""
        known = self.versions.get(arrival.product)
        return known is None or arrival.order > order_of(known.archived, known.stage, known.version)


def tells_news(
    kept: DroppedObservation,
    arrivals: Iterable[Arrival],
    made: Iterable[Archived],
    graph: Graph,
) -> bool:
    """Return whether events, of one observation, could change anything of what was dropped.

    Parameters
    ----------
    kept : DroppedObservation
        What stays of it.
    arrivals : iterable of Arrival
        What is announced of it.
    made : iterable of Archived
        The processings that are said to have made some of that.
    graph : Graph
        As it is now: it may have products that it did not have when they were dropped.
    """
    arrivals = list(arrivals)
    if any(kept.is_news(each) for each in arrivals):
        return True
    found = (kept.find(each.processing_id) for each in made)
    if any(each is not None and each.state is not State.SUCCEEDED for each in found):
        return True
    versions = {name: each.version for name, each in kept.versions.items()}
    claimed = {(each.product, each.claim) for each in kept.processings}
    arrived = sorted({each.product for each in arrivals})
    claims = claims_for(graph, kept.obs_id, arrived, versions, staged=_staged(kept))
    return any((each.product.name, each.key) not in claimed for each in claims)


def _staged(kept: DroppedObservation) -> Staged | None:
    """Return what is known of the stages of what was dropped; None if none was told."""
    ranks = {name: each.stage for name, each in kept.versions.items() if each.stage is not None}
    if not ranks:
        return None
    reached: dict[str, list[int]] = defaultdict(list)
    for each in kept.processings:
        if each.state not in {State.FAILED, State.CANCELLED}:
            reached[each.product].append(FINAL_RANK if each.stage is None else each.stage)
    return Staged(ranks, {name: Reached(min(all_), max(all_)) for name, all_ in reached.items()})


class DroppedStore(ReadsGraph):
    """Reads what stays, and puts it back; every method works in the transaction of its caller."""

    def admit(
        self, connection: sa.Connection, arrivals: Sequence[Arrival], made: Sequence[Archived]
    ) -> Sequence[Arrival]:
        """Return the arrivals that are to be recorded and claimed from.

        Those that tell nothing new of an observation that was dropped are left out; an observation
        of which there is news is put back. The caller has locked the observations.
        """
        found = read_dropped(connection, {each.obs_id for each in arrivals})
        if not found:
            return arrivals
        for obs_id, kept in list(found.items()):
            own = [each for each in arrivals if each.obs_id == obs_id]
            if tells_news(kept, own, [each for each in made if each.obs_id == obs_id], self._graph):
                _put_back(connection, found.pop(obs_id))
        return [each for each in arrivals if each.obs_id not in found]

    def restore(self, connection: sa.Connection, observations: Collection[str]) -> None:
        """Put back what was dropped of observations, which the caller has locked."""
        for kept in read_dropped(connection, observations).values():
            _put_back(connection, kept)


def read_dropped(
    connection: sa.Connection, observations: Collection[str], *, live: bool = False
) -> dict[str, DroppedObservation]:
    """Return what stays of observations, by id; of those put back since too, with `live`."""
    ids = list(observations)
    found = {}
    for start in range(0, len(ids), MAX_IN):
        for row in DROPPED_OF.execute(connection, ids[start : start + MAX_IN]):
            if live or not row.live:
                found[row.obs_id] = _decoded(row)
    return found


def read_dropped_after(
    connection: sa.Connection, after: str, limit: int
) -> list[DroppedObservation]:
    """Return a page of the observations that are dropped now, by id."""
    query = (
        sa.select(dropped)
        .where(dropped.c.obs_id > after, sa.not_(dropped.c.live))
        .order_by(dropped.c.obs_id)
        .limit(limit)
    )
    return [_decoded(row) for row in connection.execute(query)]


def rows_of(kept: DroppedObservation) -> tuple[list[Row], list[Row]]:
    """Return what stays as rows of what is available, and of processings, for views of them."""
    versions = [
        SimpleNamespace(
            obs_id=kept.obs_id,
            product=name,
            version=each.version,
            heard=each.heard,
            stage=each.stage,
            content=each.content,
            made_by=each.made_by,
        )
        for name, each in kept.versions.items()
    ]
    unknown = {"started": None, "profiled": False, "code": None, "held_by": None}
    processings = [SimpleNamespace(**each.as_row(), **unknown) for each in kept.processings]
    return cast("list[Row]", versions), cast("list[Row]", processings)


def encoded(kept: DroppedObservation) -> dict[str, Any]:
    """Return what stays of an observation as a row: no work that a transaction should wait for."""
    return {
        "obs_id": kept.obs_id,
        "archived": kept.archived,
        "file": kept.file,
        "live": False,
        "facts": _encoded(kept),
        "last_news": max(
            [each.heard for each in kept.versions.values()]
            + [each.ended for each in kept.processings],
            default=kept.archived,
        ),
    }


def write_dropped(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Record what stays of observations, as `encoded` returns it."""
    statement = insert(connection, dropped)
    new = statement.excluded
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["obs_id"],
            set_={name: new[name] for name in ("archived", "file", "live", "facts", "last_news")},
        ),
        [dict(row) for row in rows],
    )


def kept_processing(row: Row, file: str | None) -> DroppedProcessing:
    """Return what stays of a row of the table of processings."""
    values = {name: getattr(row, name) for name in _KEPT}
    times = {name: round(values[name] or 0.0, 3) for name in ("created", "ended")}
    if row.requested is not None:
        times["requested"] = round(row.requested, 3)
    return DroppedProcessing(**{**values, **times, "state": State(row.state), "file": file})


def kept_version(row: Row) -> DroppedVersion:
    """Return what stays of a row of the table of what is available."""
    origin = {name: getattr(row, name) for name in _ORIGIN}
    return DroppedVersion(
        version=row.version, archived=row.archived, heard=round(row.heard, 3), **origin
    )


def _put_back(connection: sa.Connection, kept: DroppedObservation) -> None:
    versions = [
        {
            "obs_id": kept.obs_id,
            "product": name,
            "version": each.version,
            "archived": each.archived,
            "heard": each.heard,
            **{column: getattr(each, column) for column in _ORIGIN},
        }
        for name, each in kept.versions.items()
    ]
    if versions:
        connection.execute(sa.insert(available), versions)
    if kept.processings:
        connection.execute(sa.insert(table), [each.as_row() for each in kept.processings])
    # What stays is not deleted: it tells which records are in a file of the archive already.
    connection.execute(sa.update(dropped).where(dropped.c.obs_id == kept.obs_id).values(live=True))


# In this order in what is kept: what was dropped before there was one of them has none.
_ORIGIN: Final = ("stage", "made_by", "sha256", "content", "updates")

_KEPT: Final = (
    "id",
    "product",
    "obs_id",
    "claim",
    "inputs",
    "provider",
    "priority",
    "state",
    "attempt",
    "pipeline_attempt",
    "max_attempts",
    "timeout_s",
    "error",
    "created",
    "requested",
    "ended",
    "remake",
    "pipeline_id",
    "interface",
    "work_class",
    "told_class",
    "told_priority",
    "graph_version",
    "set_aside",
    "instance",
    "campaign",
    "stage",
    "stale_since",
    "stale_because",
    "stale_told",
    "withdrawn_input",
)


def _encoded(kept: DroppedObservation) -> bytes:
    """Return what stays as compressed JSON: some forty bytes for each processing."""
    processings = []
    for each in kept.processings:
        values = {name: getattr(each, name) for name in _KEPT if name != "obs_id"}
        values = {name: value for name, value in values.items() if value is not None}
        if each.id == processing_id_of(each.product, each.obs_id, each.claim):
            del values["id"]  # computed again
        if each.file != kept.file:
            values["file"] = each.file
        processings.append({**values, "inputs": dict(each.inputs)})
    versions = {
        name: [each.version, each.archived, each.heard, *_origin(each)]
        for name, each in kept.versions.items()
    }
    text = json.dumps({"versions": versions, "processings": processings}, separators=(",", ":"))
    return zlib.compress(text.encode(), 9)


def _origin(version: DroppedVersion) -> list[Any]:
    """Return the stage of a version, who made it, and its bytes, up to the last that is told."""
    values = [getattr(version, name) for name in _ORIGIN]
    values[-1] = values[-1] or None
    while values and values[-1] is None:
        values.pop()
    return values


def _decoded(row: Row) -> DroppedObservation:
    document = json.loads(zlib.decompress(row.facts))
    processings = []
    for values in document["processings"]:
        named = {"file": row.file, **values, "obs_id": row.obs_id}
        named.setdefault("id", processing_id_of(named["product"], row.obs_id, named["claim"]))
        processings.append(DroppedProcessing(**{**named, "state": State(named["state"])}))
    return DroppedObservation(
        obs_id=row.obs_id,
        archived=row.archived,
        file=row.file,
        live=row.live,
        versions={
            name: DroppedVersion(
                version=version,
                archived=archived,
                heard=heard,
                **dict(zip(_ORIGIN, origin, strict=False)),
            )
            for name, (version, archived, heard, *origin) in document["versions"].items()
        },
        processings=processings,
    )
