"""Group commit: writes that wait share one transaction, and so one sync of the disk."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

WRITERS_LOCK_ID: Final = 2_718_281_829
"""Key of the PostgreSQL advisory lock that serialises the writers of a database."""

T = TypeVar("T")

Write = Callable[[sa.Connection], Any]


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
        self._waiting: list[tuple[Write, asyncio.Future[Any]]] = []
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
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((write, future))
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

    async def _commit_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            writes = [write for write, _ in batch]
            try:
                outcomes = await run_in_threadpool(self._commit, writes)
            except Exception as exc:  # noqa: BLE001  raised again in each caller
                outcomes = [exc] * len(batch)
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                _settle(future, outcome)

    def _commit(self, writes: list[Write]) -> list[Any]:
        with self._engine.begin() as connection:
            _lock_writers(connection)
            return [_run_write(connection, write) for write in writes]


def _lock_writers(connection: sa.Connection) -> None:
    """Wait for the transactions of other processes, as SQLite does by itself.

    Serialised writers cannot deadlock on rows, whatever the order in which they lock them.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(WRITERS_LOCK_ID)))


def _run_write(connection: sa.Connection, write: Write) -> Any:
    """Return what `write` returns, or the exception that it raises, its changes rolled back."""
    try:
        with connection.begin_nested():
            return write(connection)
    except sa.exc.OperationalError:
        # The connection failed: the transaction is lost for all the writes that share it.
        raise
    except Exception as exc:  # noqa: BLE001  raised again in the caller of this write
        return exc


def _settle(future: asyncio.Future[Any], outcome: Any) -> None:
    if future.done():  # the caller was cancelled; its write is committed all the same
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
