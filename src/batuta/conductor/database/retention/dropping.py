"""Which observations are finished and old, and dropping them in small transactions.

An observation is dropped as a whole: once each of its processings has ended, and nothing was heard
of it for as long as the rules say. What stays of it is in
`batuta.conductor.database.retention.dropped`.

Where there is an archive, the order is: the name of a file and the observations are recorded; the
file is written, whole; the observations are dropped, a few in a transaction, each unless it has
changed since it was read; the file is written again without those that had; the first record is
deleted. Killed at any point, the next sweep continues with the recorded observations and the same
file: no record is lost, and none is in two files.
"""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.claiming.claims import ClaimStore
from batuta.conductor.database.records import MAX_IN, Row
from batuta.conductor.database.retention.dropped import (
    DroppedObservation,
    encoded,
    kept_processing,
    kept_version,
    read_dropped,
    write_dropped,
)
from batuta.conductor.database.schema import about, available, deadlines, history, incidents
from batuta.conductor.database.schema import processings as table
from batuta.messaging import ProcessingState as State
from batuta.messaging.processings import instant_of
from batuta.service.database import reading
from batuta.service.record_archive import new_file_name, read_archive, write_archive
from batuta.service.retention import RetentionRules

PAGE: Final = 500
"""Observations that are looked at together, and written to one file."""
MAX_ROWS: Final = 200
"""Rows that one transaction deletes, about: decisions wait for it."""

SERVICE: Final = "conductor"
_BATCH: Final = "pruning"
"""The key of the batch under way in the table `about`."""


def may_drop(
    states: Collection[State], last_news: float, rules: RetentionRules, now: float
) -> bool:
    """Return whether the records of an observation are finished and old.

    Parameters
    ----------
    states : collection of ProcessingState
        The states of its processings.
    last_news : float
        When a product of it was last heard of, or a processing ended, in seconds since 1970.
    rules : RetentionRules
        How long they stay.
    now : float
        Seconds since 1970.
    """
    if not all(state.ended for state in states):
        return False
    succeeded = all(state is State.SUCCEEDED for state in states)
    return last_news < rules.cutoff(now, succeeded=succeeded)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An observation that may be dropped, and how many processings it has."""

    obs_id: str
    processings: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Observations that are being dropped, and the file they go to; None without an archive."""

    file: str | None
    obs_ids: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All rows of an observation at one moment, and what stayed of it when it was last dropped."""

    obs_id: str
    versions: tuple[Row, ...]
    processings: tuple[Row, ...]
    earlier: DroppedObservation | None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.versions) + len(self.processings)

    @property
    def unarchived(self) -> list[Row]:
        """The processings that are in no file yet: those that have ended since it was dropped."""
        return [row for row in self.processings if not self._earlier_file(row)]

    def may_drop(self, rules: RetentionRules, now: float) -> bool:
        """Return whether the observation is finished and old, and there is something of it."""
        heard = [row.heard for row in self.versions]
        ended = [row.ended or 0.0 for row in self.processings]
        states = [State(row.state) for row in self.processings]
        return self.rows > 0 and may_drop(states, max(heard + ended), rules, now)

    def kept(self, file: str | None, now: float) -> DroppedObservation:
        """Return what stays of it, its records now in `file`."""
        if not self.unarchived:
            file = self.earlier.file if self.earlier is not None else None
        return DroppedObservation(
            obs_id=self.obs_id,
            archived=now,
            file=file,
            versions={row.product: kept_version(row) for row in self.versions},
            processings=[
                kept_processing(row, self._earlier_file(row) or file) for row in self.processings
            ],
        )

    def _earlier_file(self, row: Row) -> str | None:
        """Return the file that has the record of a processing as it is now, if one has."""
        known = self.earlier.find(row.id) if self.earlier is not None else None
        same = known is not None and known.ended == round(row.ended or 0.0, 3)
        return known.file if known is not None and same else None


def in_chunks(snapshots: Sequence[Snapshot], max_rows: int = MAX_ROWS) -> Iterator[list[Snapshot]]:
    """Split observations into chunks of about `max_rows` rows, of one observation at least."""
    chunk: list[Snapshot] = []
    rows = 0
    for each in snapshots:
        if chunk and rows + each.rows > max_rows:
            yield chunk
            chunk, rows = [], 0
        chunk.append(each)
        rows += each.rows
    if chunk:
        yield chunk


class RetentionStore:
    """Finds, archives and drops observations; each method is at most one transaction.

    Parameters
    ----------
    engine : sa.Engine
        The conductor's database.
    claims : ClaimStore
        Locks observations.
    rules : RetentionRules
        What is dropped, and where it goes.
    clock : callable
        Returns the time, in seconds since 1970.
    """

    def __init__(
        self,
        engine: sa.Engine,
        claims: ClaimStore,
        rules: RetentionRules,
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._claims = claims
        self._clock = clock
        self.rules = rules

    def candidates(self, after: str) -> tuple[list[Candidate], str | None]:
        """Return those of the next `PAGE` observations that may be dropped, and the last one seen.

        The second value is None after the last page.
        """
        with reading(self._engine) as connection:
            ids = _observations_after(connection, after)
            if not ids:
                return [], None
            within = _observation_news(connection, ids[0], ids[-1])
        now = self._clock()
        found = [
            Candidate(obs_id=obs_id, processings=news.processings)
            for obs_id, news in within.items()
            if may_drop(news.states, news.last, self.rules, now)
        ]
        return found, ids[-1] if len(ids) == PAGE else None

    def batch_under_way(self) -> Batch | None:
        """Return the batch that was recorded and not ended: its sweep was killed."""
        with reading(self._engine) as connection:
            text = connection.scalar(sa.select(about.c.value).where(about.c.key == _BATCH))
        return Batch(**json.loads(text)) if text is not None else None

    def begin_batch(self, obs_ids: Sequence[str]) -> Batch:
        """Record that observations are going to be dropped, if they go to a file; return that."""
        if self.rules.archive is None:
            return Batch(file=None, obs_ids=obs_ids)
        batch = Batch(file=new_file_name(SERVICE, self._clock()), obs_ids=list(obs_ids))
        value = json.dumps({"file": batch.file, "obs_ids": batch.obs_ids})
        with self._engine.begin() as connection:
            connection.execute(sa.insert(about).values(key=_BATCH, value=value))
        return batch

    def end_batch(self) -> None:
        """Record that a batch has ended."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(about).where(about.c.key == _BATCH))

    def archive_batch(self, batch: Batch) -> list[Snapshot]:
        """Write the file of a batch, and return the observations of it that may be dropped.

        Those that were dropped already, before their sweep was killed, stay in the file.
        """
        with reading(self._engine) as connection:
            gone = _dropped_to(connection, batch)
            snapshots = self._snapshots(connection, [x for x in batch.obs_ids if x not in gone])
        now = self._clock()
        snapshots = [each for each in snapshots if each.may_drop(self.rules, now)]
        if batch.file is None:
            return snapshots
        if self.rules.archive is None:  # the rules have changed since the batch began
            return []
        _write(self.rules.archive, batch.file, gone, snapshots, now)
        return snapshots

    def archive_dropped(self, batch: Batch) -> None:
        """Write the file of a batch again, without the observations that were not dropped."""
        if batch.file is not None and self.rules.archive is not None:
            with reading(self._engine) as connection:
                gone = _dropped_to(connection, batch)
            _write(self.rules.archive, batch.file, gone, [], self._clock())

    def drop(self, snapshots: Sequence[Snapshot], file: str | None) -> list[Snapshot]:
        """Drop observations, and return those dropped: what has changed since is left as it is."""
        now = self._clock()
        ids = [each.obs_id for each in snapshots]
        rows = {each.obs_id: encoded(each.kept(file, now)) for each in snapshots}
        with self._engine.begin() as connection:
            self._claims.lock_observations(connection, ids)
            current = {each.obs_id: each for each in self._snapshots(connection, ids, lock=True)}
            same = [each for each in snapshots if current.get(each.obs_id) == each]
            if not same:
                return []
            _delete(connection, [each.obs_id for each in same])
            write_dropped(connection, [rows[each.obs_id] for each in same])
        return same

    def free_bytes(self) -> int | None:
        """Return the free space in the file of the database; None where a server looks after it."""
        if self._engine.dialect.name != "sqlite":
            return None
        with reading(self._engine) as connection:
            pages = connection.scalar(sa.text("PRAGMA freelist_count"))
            size = connection.scalar(sa.text("PRAGMA page_size"))
        return int(pages or 0) * int(size or 0)

    def _snapshots(
        self, connection: sa.Connection, ids: Sequence[str], *, lock: bool = False
    ) -> list[Snapshot]:
        versions: dict[str, list[Row]] = {obs_id: [] for obs_id in ids}
        processings: dict[str, list[Row]] = {obs_id: [] for obs_id in ids}
        for start in range(0, len(ids), MAX_IN):
            part = ids[start : start + MAX_IN]
            heard = sa.select(available).where(available.c.obs_id.in_(part))
            for row in connection.execute(heard.order_by(available.c.product)):
                versions[row.obs_id].append(row)
            made = sa.select(table).where(table.c.obs_id.in_(part))
            made = made.order_by(table.c.created, table.c.id)
            for row in connection.execute(made.with_for_update() if lock else made):
                processings[row.obs_id].append(row)
        earlier = read_dropped(connection, ids, live=True)
        return [
            Snapshot(
                obs_id=obs_id,
                versions=tuple(versions[obs_id]),
                processings=tuple(processings[obs_id]),
                earlier=earlier.get(obs_id),
            )
            for obs_id in ids
        ]


@dataclass(slots=True)
class _News:
    states: set[State]
    processings: int = 0
    last: float = 0.0


def _observations_after(connection: sa.Connection, after: str) -> list[str]:
    known = sa.union(
        sa.select(available.c.obs_id).where(available.c.obs_id > after),
        sa.select(table.c.obs_id).where(table.c.obs_id > after),
    )
    return list(connection.scalars(known.order_by("obs_id").limit(PAGE)))


def _observation_news(connection: sa.Connection, first: str, last: str) -> dict[str, _News]:
    found: dict[str, _News] = {}
    heard = (
        sa.select(available.c.obs_id, sa.func.max(available.c.heard).label("last"))
        .where(available.c.obs_id.between(first, last))
        .group_by(available.c.obs_id)
    )
    for row in connection.execute(heard):
        found[row.obs_id] = _News(set(), last=row.last)
    ended = (
        sa.select(
            table.c.obs_id,
            table.c.state,
            sa.func.count().label("processings"),
            sa.func.max(table.c.ended).label("last"),
        )
        .where(table.c.obs_id.between(first, last))
        .group_by(table.c.obs_id, table.c.state)
    )
    for row in connection.execute(ended):
        news = found.setdefault(row.obs_id, _News(set()))
        news.states.add(State(row.state))
        news.processings += row.processings
        news.last = max(news.last, row.last or 0.0)
    return found


def _dropped_to(connection: sa.Connection, batch: Batch) -> set[str]:
    """Return the observations of a batch that were dropped, put back since or not."""
    kept = read_dropped(connection, batch.obs_ids, live=True)
    return {each.obs_id for each in kept.values() if each.file == batch.file}


def _delete(connection: sa.Connection, ids: Sequence[str]) -> None:
    for start in range(0, len(ids), MAX_IN):
        part = ids[start : start + MAX_IN]
        connection.execute(sa.delete(table).where(table.c.obs_id.in_(part)))
        connection.execute(sa.delete(available).where(available.c.obs_id.in_(part)))
        connection.execute(sa.delete(deadlines).where(deadlines.c.obs_id.in_(part)))
        connection.execute(sa.delete(history).where(history.c.obs_id.in_(part)))
        connection.execute(sa.delete(incidents).where(incidents.c.obs_id.in_(part)))


def _write(
    folder: Path, name: str, gone: Collection[str], snapshots: Sequence[Snapshot], now: float
) -> None:
    written = [each for each in read_archive(folder, name) if each["obs_id"] in gone]
    records = [archive_record(row, now) for each in snapshots for row in each.unarchived]
    write_archive(folder, name, [*written, *records])


def archive_record(row: Row, now: float) -> dict[str, Any]:
    """Return a processing as a line of the archive; times are UTC, in ISO 8601."""
    times = ("created", "requested", "started", "ended")
    values = {name: row._mapping[name] for name in _ARCHIVED}
    for name in times:
        values[name] = instant_of(values[name]).isoformat() if values[name] is not None else None
    return {**values, "archived": instant_of(now).isoformat()}


_ARCHIVED: Final = (
    "id",
    "product",
    "obs_id",
    "state",
    "attempt",
    "max_attempts",
    "error",
    "provider",
    "inputs",
    "code",
    "created",
    "requested",
    "started",
    "ended",
)
"""The columns that are archived: what `batuta why` and the REST interface show."""
