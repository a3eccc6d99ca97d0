"""Group commit: writes that wait share one transaction, and so one sync of the disk."""

import asyncio
import itertools
import operator
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import sqlalchemy as sa

WRITERS_LOCK_ID: Final = 2_718_281_829
"""Key of the PostgreSQL advisory lock that serialises the writers of a database."""

T = TypeVar("T")

Write = Callable[[sa.Connection], Any]
WriteAll = Callable[[sa.Connection, Sequence[Any]], Sequence[Any]]


class Committer:
    """Executes writes in the order of their arrival; each is committed when it returns.

    One transaction is open at a time. Writes that arrive while it is being committed wait, and
    share the next one.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        # One of its own: it is free when it is wanted, and handing over to it takes least.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="committer")
        self._waiting: list[tuple[WriteAll, Any, asyncio.Future[Any]]] = []
        self._committing: asyncio.Task[None] | None = None

    async def commit(self, write: Callable[[sa.Connection], T]) -> T:
        """Call `write` in a transaction; return what it returned, once committed.

        What `write` raises is raised, and all its changes are rolled back; the writes that share
        its transaction are not affected.

        Raises
        ------
        sqlalchemy.exc.OperationalError
            If the database does not answer; whether the write was committed is unknown.
        """
        result: T = await self.commit_item(_write_each, write)
        return result

    async def commit_item(self, write_all: WriteAll, item: Any) -> Any:
        """Call `write_all` with `item`, and the others that wait for it; return the outcome of it.

        `write_all` takes a list of items, and returns an outcome for each, in their order: one
        that is an exception is raised where its item was given. So many items cost few statements.
        If `write_all` itself raises, its changes are rolled back, and it is called again with each
        item alone. Raises as `commit`.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((write_all, item, future))
        # No wake-up is lost: the task checks `_waiting` and finishes without an await in between. A
        # write appended here is seen by that check, or finds the task done.
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_waiting())
        return await future

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._committing is not None:
            await self._committing
        self._thread.shutdown()

    async def _commit_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            calls = [(write_all, item) for write_all, item, _ in batch]
            try:
                outcomes = await loop.run_in_executor(self._thread, self._commit, calls)
            except Exception as exc:  # noqa: BLE001  raised again in each caller
                outcomes = [exc] * len(batch)
            for (_, _, future), outcome in zip(batch, outcomes, strict=True):
                _settle(future, outcome)

    def _commit(self, calls: list[tuple[WriteAll, Any]]) -> list[Any]:
        with self._engine.begin() as connection:
            lock_writers(connection)
            if len(calls) == 1:
                # Alone in its transaction, which is rolled back where it raises.
                ((write_all, item),) = calls
                return list(write_all(connection, [item]))
            return [
                outcome
                for write_all, group in itertools.groupby(calls, key=operator.itemgetter(0))
                for outcome in _run(connection, write_all, [item for _, item in group])
            ]


def lock_writers(connection: sa.Connection) -> None:
    """Wait for the transactions of other processes, as SQLite does by itself.

    Serialised writers cannot deadlock on rows, whatever the order in which they lock them.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(WRITERS_LOCK_ID)))


def _run(connection: sa.Connection, write_all: WriteAll, items: list[Any]) -> Sequence[Any]:
    """Return the outcomes of `items`: what `write_all` returns, or the exception that it raises."""
    savepoint = connection.begin_nested()
    try:
        outcomes = write_all(connection, items)
    except sa.exc.OperationalError:
        # The connection failed, or the disk is full: the transaction is lost for all the writes
        # that share it, with its savepoints.
        raise
    except Exception as exc:  # noqa: BLE001  raised again in the caller of this write
        savepoint.rollback()
        if len(items) == 1:
            return [exc]
    else:
        savepoint.commit()
        return outcomes
    return [outcome for item in items for outcome in _run(connection, write_all, [item])]


def _write_each(connection: sa.Connection, writes: Sequence[Write]) -> list[Any]:
    if len(writes) == 1:
        return [writes[0](connection)]
    return [outcome for write in writes for outcome in _run(connection, _write_each, [write])]


def _settle(future: asyncio.Future[Any], outcome: Any) -> None:
    if future.done():  # the caller was cancelled; its write is committed all the same
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
