"""The lock of the conductor that prunes: one of a database at a time."""

import fcntl
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from batuta.errors import one_line
from batuta.private_files import create_private
from batuta.service.database import UNAVAILABLE
from batuta.service.record_archive import ArchiveError

LOCK_KEY: Final = 1_618_033_989
"""Key of the PostgreSQL advisory lock."""

T = TypeVar("T")


@dataclass(frozen=True)
class PruningLock:
    """Held until it is closed, or its process ends.

    Parameters
    ----------
    resources : ExitStack
        What holds it: an open file, or a connection.
    connection : sa.Connection, optional
        Of PostgreSQL: the lock is lost with it, such as at a restart of the server.
    """

    resources: ExitStack
    connection: sa.Connection | None = None

    def held(self, work: Callable[..., T]) -> Callable[..., T]:
        """Return `work` as it is to be called: each time, if the lock is still held.

        Two that archive to one file, and drop what they believe is there, would lose records.

        Raises
        ------
        ArchiveError
            When it is called, if the lock was lost.
        """

        def work_alone(*args: Any) -> T:
            self._require()
            return work(*args)

        return work_alone

    def close(self) -> None:
        """Let others prune."""
        connection = self.connection
        with self.resources:
            if connection is not None and not connection.invalidated:
                # Before the connection goes back to the pool, where it would keep the lock. If it
                # is lost just now, so is the lock.
                with suppress(*UNAVAILABLE):
                    connection.scalar(sa.select(sa.func.pg_advisory_unlock(LOCK_KEY)))

    def _require(self) -> None:
        if self.connection is None:
            return
        try:
            self.connection.scalar(sa.select(1))
        except UNAVAILABLE as exc:
            reason = one_line(getattr(exc, "orig", None) or exc)
            raise ArchiveError(
                f"the connection that locks what is dropped was lost: {reason}"
            ) from exc


def lock_server(engine: sa.Engine) -> PruningLock | None:
    """Lock a database of PostgreSQL; None if another conductor has."""
    with ExitStack() as stack:
        connection = stack.enter_context(engine.connect())
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        if not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(LOCK_KEY))):
            return None
        return PruningLock(stack.pop_all(), connection)


def lock_file(path: Path) -> PruningLock | None:
    """Lock a file beside an SQLite database; None if another conductor has."""
    create_private(path)
    with ExitStack() as stack:
        file = stack.enter_context(path.open())
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        return PruningLock(stack.pop_all())
