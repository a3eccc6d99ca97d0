"""The conductor's database: what is available, and every processing, from claim to end.

Each method is one transaction. What the methods return has been committed: only then is a
message acknowledged, or a request sent.
"""

import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.claims import ClaimDesk, product_columns
from batuta.conductor.rules import Arrival, ask_wait_s, retry_wait_s
from batuta.conductor.schema import ACTIVE, EVERY_PROVIDER, PENDING, about, holds
from batuta.conductor.schema import processings as table
from batuta.graph import Graph
from batuta.messaging import ProcessingState as State
from batuta.service.database import insert, reading

Row = sa.Row[Any]
"""A row of the table of processings."""

SPEAKING_S: Final = 30.0
"""A pipeline that speaks is asked about a processing no sooner, in seconds."""
MAX_ASKED: Final = 64
"""Silent processings looked at in one go."""


Spare = Callable[[str], int]
"""How many more requests a provider may be sent now."""


def _unlimited(_provider: str) -> int:
    return sys.maxsize


@dataclass(frozen=True, kw_only=True)
class LedgerConfig:
    """How long to wait: see `ConductorSettings`."""

    retry_wait_s: float = 1.0
    retry_wait_max_s: float = 300.0
    ask_after_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Request:
    """A processing whose request is recorded, and is to be sent now."""

    processing_id: str
    product: str
    obs_id: str
    provider: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What is learnt of a processing: from its pipeline, or from its silence.

    Parameters
    ----------
    state : ProcessingState
        The state that its pipeline says it is in. `FAILED` means that this attempt failed;
        `WAITING`, that the pipeline was full: the attempt did not take place.
    attempt : int or None
        The attempt that it is about, as the pipeline counts; None where the pipeline was
        asked, and so it can only be about the present one.
    final : bool
        With `FAILED`: no further attempt would do better.
    wait_s : float
        With `WAITING`: when to ask again, in seconds.
    asked_attempt : int or None
        The attempt that was under way when the pipeline was asked: an answer that comes once
        another one is, says nothing of it.
    profiled : bool
        Where it has ended: whether its pipeline keeps a profile of it.
    """

    processing_id: str
    state: State
    attempt: int | None = None
    done: int = 0
    total: int = 0
    error: str | None = None
    started: float | None = None
    final: bool = False
    wait_s: float = 0.0
    answered_attempt: int | None = None
    asked_attempt: int | None = None
    profiled: bool = False


class Ledger:
    """The conductor's database.

    Parameters
    ----------
    engine : sa.Engine
        Open, with the latest schema.
    graph : Graph
        The product graph.
    config : LedgerConfig
        The waits.
    clock : callable
        Gives the time, in seconds since 1970; tests give their own.

    Attributes
    ----------
    speaks : callable
        Whether a provider has been heard lately on ``activity.*``: then its silence about a
        processing means little, and it is asked later.
    """

    def __init__(
        self,
        engine: sa.Engine,
        graph: Graph,
        config: LedgerConfig,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._graph = graph
        self._config = config
        self._clock = clock
        self._desk = ClaimDesk(graph)
        self.speaks: Callable[[str], bool] = lambda _provider: False

    # ------------------------------------------------------------------ what is available

    def identity(self) -> str:
        """Name this database, the same as long as it lives, for all conductors that share it."""
        with self._engine.begin() as connection:
            connection.execute(
                insert(connection, about)
                .values(key="identity", value=uuid.uuid4().hex)
                .on_conflict_do_nothing()
            )
            return str(_about(connection, "identity"))

    @property
    def rebuilt(self) -> bool:
        """Whether it has learnt what the sdb held before it was created."""
        with reading(self._engine) as connection:
            return _about(connection, "rebuilt") is not None

    def rebuild(self, arrivals: Iterable[Arrival]) -> None:
        """Learn all that the sdb holds, without claiming anything from it.

        What can be made from it is claimed as the ``data`` stream is heard again.
        """
        with self._engine.begin() as connection:
            for batch in _batches(arrivals, 1000):
                self._desk.learn(connection, batch, self._clock())
            connection.execute(
                # Another conductor of the same database may have learnt it meanwhile.
                insert(connection, about)
                .values(key="rebuilt", value="yes")
                .on_conflict_do_nothing()
            )

    def hear(
        self,
        arrivals: Sequence[Arrival],
        room: int,
        full: Collection[str] = (),
        spare: Spare = _unlimited,
    ) -> list[Request]:
        """Record what has come, claim what can be made of it, and take up to `room` requests.

        Parameters
        ----------
        full : collection of str
            Providers not to be asked now.
        """
        now = self._clock()
        with self._engine.begin() as connection:
            self._desk.lock(connection, {arrival.obs_id for arrival in arrivals})
            self._desk.learn(connection, arrivals, now)
            self._desk.claim(connection, arrivals, now)
            return self._take_due(connection, now, room, full, spare)

    # ------------------------------------------------------------------ requests

    def take_due(
        self, room: int, full: Collection[str] = (), spare: Spare = _unlimited
    ) -> list[Request]:
        """Record as requested the processings whose time has come, at most `room` of them.

        Of one provider, at most `spare` of its name.
        """
        with self._engine.begin() as connection:
            return self._take_due(connection, self._clock(), room, full, spare)

    def next_time(self, since: float, full: Collection[str] = ()) -> float | None:
        """When something is to be done next: a request, or a question to a silent pipeline.

        Parameters
        ----------
        since : float
            When `take_due` was last called: what was due by then, and was not taken, waits for
            something else than time.
        """
        with reading(self._engine) as connection:
            later = sa.select(sa.func.min(table.c.not_before)).where(
                sa.text(PENDING), table.c.not_before > since, table.c.provider.not_in(full)
            )
            asked = sa.select(sa.func.min(table.c.ask_at)).where(sa.text(ACTIVE))
            times = [connection.scalar(later), connection.scalar(asked)]
        return min((time_ for time_ in times if time_ is not None), default=None)

    def _take_due(
        self,
        connection: sa.Connection,
        now: float,
        room: int,
        full: Collection[str],
        spare: Spare,
    ) -> list[Request]:
        if room <= 0:
            return []
        self._desk.lock_places(connection)
        rooms = self._rooms(connection)
        closed = {*full, *(provider for provider, left in rooms.items() if left <= 0)}
        taken: list[Row] = []
        while room > len(taken):
            due = self._due(connection, now, room - len(taken), closed)
            chosen = [row for row in due if _take_place(rooms, row.provider, spare)]
            self._mark_requested(connection, chosen, now)
            taken += chosen
            if len(chosen) == len(due):
                break
            # Those with no place left must not hide what others can take.
            closed |= {row.provider for row in due if rooms[row.provider] <= 0}
        return [
            Request(row.id, row.product, row.obs_id, row.provider, row.attempt + 1) for row in taken
        ]

    def _due(
        self, connection: sa.Connection, now: float, most: int, closed: Collection[str]
    ) -> Sequence[Row]:
        sibling = table.alias()
        # Two at once for one product and observation: the older inputs might be archived last.
        under_way = (
            sa.select(sibling.c.id)
            .where(
                sibling.c.obs_id == table.c.obs_id,
                sibling.c.product == table.c.product,
                sibling.c.state.in_(_AT_PROVIDER),
            )
            .exists()
        )
        return connection.execute(
            sa.select(table)
            .where(
                sa.text(f"conductor_processings.{PENDING}"),
                table.c.not_before <= now,
                table.c.provider.not_in(closed),
                ~under_way,
            )
            .order_by(table.c.priority.desc(), table.c.created)
            .limit(most)
            .with_for_update(skip_locked=True, of=table)
        ).all()

    def _rooms(self, connection: sa.Connection) -> dict[str, int]:
        """Places left at each provider that has a limit."""
        limits = {
            provider.name: provider.max_concurrent
            for provider in self._graph.providers.values()
            if provider.max_concurrent is not None
        }
        if not limits:
            return {}
        counts = connection.execute(
            sa.select(table.c.provider, sa.func.count())
            .where(sa.text(ACTIVE), table.c.provider.in_(limits))
            .group_by(table.c.provider)
        ).all()
        busy = {row[0]: row[1] for row in counts}
        return {name: limit - busy.get(name, 0) for name, limit in limits.items()}

    def _mark_requested(self, connection: sa.Connection, rows: list[Row], now: float) -> None:
        by_wait: defaultdict[float, list[str]] = defaultdict(list)
        for row in rows:
            by_wait[self._ask_after_s(row.provider)].append(row.id)
        for wait_s, ids in by_wait.items():
            connection.execute(
                sa.update(table)
                .where(table.c.id.in_(ids))
                .values(
                    state=State.REQUESTED,
                    attempt=table.c.attempt + 1,
                    pipeline_attempt=table.c.attempt + 1,
                    requested=now,
                    started=None,
                    done=0,
                    total=0,
                    profiled=False,
                    ask_at=now + wait_s,
                )
            )

    def _ask_after_s(self, provider: str) -> float:
        return max(self._config.ask_after_s, SPEAKING_S if self.speaks(provider) else 0.0)

    # ------------------------------------------------------------------ following

    def settle(self, news: Sequence[News]) -> list[Row]:
        """Record what was learnt; return the processings that now retry, or have ended."""
        if not news:
            return []
        now = self._clock()
        turned: list[str] = []
        with self._engine.begin() as connection:
            known = self._rows(connection, {item.processing_id for item in news})
            changes: dict[str, dict[str, Any]] = {}
            for item in news:
                row = known.get(item.processing_id)
                if row is None:
                    continue
                current = {**_columns(row), **changes.get(row.id, {})}
                change = self._change(current, item, now)
                if change is not None:
                    changes.setdefault(row.id, {}).update(change)
            for processing_id, change in changes.items():
                connection.execute(
                    sa.update(table).where(table.c.id == processing_id).values(**change)
                )
                if change.get("state") in _TURNS:
                    turned.append(processing_id)
            after = self._rows(connection, turned)
            self._desk.release_waiting(connection, after.values(), now)
        return list(after.values())

    def silent(self, most: int = MAX_ASKED) -> list[Row]:
        """Processings whose pipeline is to be asked now; they are not returned again at once."""
        if most <= 0:
            return []
        now = self._clock()
        with self._engine.begin() as connection:
            rows = connection.execute(
                sa.select(table)
                .where(sa.text(ACTIVE), table.c.ask_at <= now)
                .order_by(table.c.ask_at)
                .limit(most)
                .with_for_update(skip_locked=True)
            ).all()
            for row in rows:
                connection.execute(
                    sa.update(table)
                    .where(table.c.id == row.id)
                    .values(ask_at=self._next_question(_columns(row), now))
                )
        return list(rows)

    def _change(self, row: Mapping[str, Any], item: News, now: float) -> dict[str, Any] | None:
        """The columns that `item` changes; None where it is old news."""
        state = State(row["state"])
        # What is made is made, whatever was believed of it meanwhile.
        made = item.state is State.SUCCEEDED and state is not State.SUCCEEDED
        if not made and (state not in _AT_PROVIDER or _is_old(item, row)):
            # A processing that was ended from here has its profile a moment later.
            late = item.profiled and not row["profiled"] and not _is_old(item, row)
            return {"profiled": True} if late else None
        if item.state is State.CANCELLED and _overdue(row, now):
            # By us, at its deadline: the pipeline's word may come before its answer.
            told = f"no end after {row['timeout_s']:g} s (timeout), stopped at {row['provider']}"
            return self._after_failure(row, replace(item, error=told), now)
        if item.state is State.FAILED:
            return self._after_failure(row, item, now)
        if item.state is State.WAITING:
            return {
                "state": State.WAITING,
                "attempt": row["attempt"] - 1,
                "not_before": now + item.wait_s,
                "error": item.error,
            }
        change: dict[str, Any] = {"state": item.state, "done": item.done, "total": item.total}
        if item.answered_attempt is not None:
            change["pipeline_attempt"] = item.answered_attempt
        if item.state is State.QUEUED:
            # Where it ran before, its pipeline was restarted and put it back.
            change["started"] = None
        if item.state is State.RUNNING:
            change["started"] = item.started or row["started"] or now
        if item.state.ended:
            error = None if item.state is State.SUCCEEDED else item.error
            started = row["started"] or item.started
            ended = {"ended": now, "error": error, "profiled": item.profiled}
            return {**change, **ended, "started": started}
        change["ask_at"] = self._next_question({**row, **change}, now)
        return change

    def _after_failure(self, row: Mapping[str, Any], item: News, now: float) -> dict[str, Any]:
        told = {"error": item.error, "profiled": item.profiled}
        if item.final or row["attempt"] >= row["max_attempts"]:
            return {**told, "state": State.FAILED, "ended": now}
        config = self._config
        wait = retry_wait_s(row["attempt"], config.retry_wait_s, config.retry_wait_max_s)
        return {**told, "state": State.RETRYING, "not_before": now + wait}

    def _next_question(self, row: Mapping[str, Any], now: float) -> float:
        first_s = self._ask_after_s(row["provider"])
        wait = ask_wait_s(now - (row["requested"] or now), first_s)
        if row["started"] is None:
            return now + wait
        # No later than its deadline, so that one that never ends is seen to.
        deadline: float = row["started"] + row["timeout_s"]
        return min(now + wait, max(now, deadline) + _AFTER_DEADLINE_S)

    def _rows(self, connection: sa.Connection, ids: Collection[str]) -> dict[str, Row]:
        if not ids:
            return {}
        rows = connection.execute(
            sa.select(table).where(table.c.id.in_(ids)).with_for_update()
        ).all()
        return {row.id: row for row in rows}

    # ------------------------------------------------------------------ by hand

    def ask_for(self, product: str, obs_id: str) -> Row:
        """Record a processing asked for by a person; it is made whatever was made before.

        Raises
        ------
        KeyError
            If the graph has no such product.
        """
        with self._engine.begin() as connection:
            return self._desk.claim_by_hand(
                connection, self._graph.products[product], obs_id, self._clock()
            )

    def retry(self, processing_id: str) -> Row | None:
        """Reset the attempts of an ended processing; None if it has not ended, or succeeded."""
        with self._engine.begin() as connection:
            row = self._rows(connection, [processing_id]).get(processing_id)
            if row is None or row.state not in (State.FAILED, State.CANCELLED):
                return None
            product = self._graph.products.get(row.product)
            more = product.max_attempts if product else 1
            # The graph may have been mended since: that may be why it is tried again.
            mended = product_columns(product) if product else {}
            self._set(
                connection,
                processing_id,
                **{**mended, "max_attempts": row.attempt + more},
                state=State.WAITING,
                not_before=self._clock(),
                ended=None,
            )
            self._desk.hold_back(connection)
            return self._rows(connection, [processing_id])[processing_id]

    def cancel(self, processing_id: str, reason: str) -> Row | None:
        """Record as cancelled a processing that has not ended; None where it has.

        Returns
        -------
        Row or None
            As it was before, so that its provider can be told where it was there.
        """
        with self._engine.begin() as connection:
            row = self._rows(connection, [processing_id]).get(processing_id)
            if row is None or State(row.state).ended:
                return None
            now = self._clock()
            self._set(connection, processing_id, state=State.CANCELLED, error=reason, ended=now)
            after = self._rows(connection, [processing_id])
            self._desk.release_waiting(connection, after.values(), now)
            return row

    def hold(self, provider: str | None) -> None:
        """Keep back what is not requested yet, of one provider or of all."""
        values = {"provider": provider or EVERY_PROVIDER, "since": self._clock()}
        with self._engine.begin() as connection:
            connection.execute(insert(connection, holds).values(values).on_conflict_do_nothing())
            self._desk.hold_back(connection)

    def release(self, provider: str | None) -> None:
        """End a hold; a hold of all does not end by releasing one provider."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.delete(holds).where(holds.c.provider == (provider or EVERY_PROVIDER))
            )
            connection.execute(
                sa.update(table).where(table.c.state == State.HELD).values(state=State.WAITING)
            )
            self._desk.hold_back(connection)

    def held(self) -> list[str]:
        """Providers that are held; ``*`` for all."""
        with reading(self._engine) as connection:
            return sorted(connection.scalars(sa.select(holds.c.provider)))

    def _set(self, connection: sa.Connection, processing_id: str, **values: Any) -> None:
        connection.execute(sa.update(table).where(table.c.id == processing_id).values(**values))


_AT_PROVIDER: Final = frozenset({State.REQUESTED, State.QUEUED, State.RUNNING})
_TURNS: Final = frozenset({State.RETRYING, State.FAILED, State.CANCELLED, State.SUCCEEDED})
_AFTER_DEADLINE_S: Final = 0.05


def _is_old(item: News, row: Mapping[str, Any]) -> bool:
    """Whether it is about an attempt that is over."""
    if item.asked_attempt is not None and item.asked_attempt != row["attempt"]:
        return True
    return item.attempt is not None and item.attempt < row["pipeline_attempt"]


def _overdue(row: Mapping[str, Any], now: float) -> bool:
    return row["started"] is not None and now >= row["started"] + row["timeout_s"]


def _columns(row: Row) -> dict[str, Any]:
    return dict(row._mapping)


def _about(connection: sa.Connection, key: str) -> str | None:
    value: str | None = connection.scalar(sa.select(about.c.value).where(about.c.key == key))
    return value


def _take_place(rooms: dict[str, int], provider: str, spare: Spare) -> bool:
    """Take one place at `provider`, where one is left."""
    most = spare(provider)
    rooms[provider] = min(rooms.get(provider, most), most) - 1
    return rooms[provider] >= 0


def _batches(items: Iterable[Arrival], size: int) -> Iterable[list[Arrival]]:
    batch: list[Arrival] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    yield batch
