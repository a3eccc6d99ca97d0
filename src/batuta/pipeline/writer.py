"""Writes to the database from an event loop: those that wait are committed together."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from batuta.service.database import DatabaseError

T = TypeVar("T")

Write = Callable[[sa.Connection], Any]


class Writer:
    """Carries writes out in one thread, in order; each is on the disk when it returns.

    A commit waits for the disk. Those that come meanwhile share the next one, so that a
    thousand at once cost a few commits.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, "database")
        self._waiting: list[tuple[Write, asyncio.Future[Any]]] = []
        self._committing: asyncio.Task[None] | None = None

    async def write(self, write: Callable[[sa.Connection], T]) -> T:
        """Have `write` called in a transaction; return what it returned, once committed.

        Raises
        ------
        DatabaseError
            If the database refuses; nothing that was to be committed with it is.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((write, future))
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
            try:
                results = await loop.run_in_executor(self._thread, self._commit, batch)
            except Exception as exc:  # noqa: BLE001  raised again, in each who waits
                _settle([(future, None) for _, future in batch], exc)
            else:
                futures = (future for _, future in batch)
                _settle(list(zip(futures, results, strict=True)), None)

    def _commit(self, batch: list[tuple[Write, asyncio.Future[Any]]]) -> list[Any]:
        try:
            with self._engine.begin() as connection:
                return [write(connection) for write, _ in batch]
        except SQLAlchemyError as exc:
            reason = " ".join(str(getattr(exc, "orig", None) or exc).split())
            shown = self._engine.url.render_as_string(hide_password=True)
            raise DatabaseError(f"database {shown}: {reason}") from exc


def _settle(results: list[tuple[asyncio.Future[Any], Any]], error: Exception | None) -> None:
    for future, result in results:
        if future.done():  # whoever waited was cancelled; the write is done all the same
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
