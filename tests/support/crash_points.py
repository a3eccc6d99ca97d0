"""Killing a program at a boundary of a transaction: before its commit, or right after it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from batuta.service.database import READ_ONLY


class KilledError(Exception):
    """What a kill is to the code that runs: nothing of it goes on."""


class CrashPoints:
    """Counts the transactions that write to a database, and kills at one of them.

    Parameters
    ----------
    engine : sa.Engine
        The database.

    Attributes
    ----------
    commits : int
        The transactions that have come to their commit, the killed one included.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._at = 0
        self._after = False
        self._writes = False
        self.commits = 0

    @contextmanager
    def armed(self, at: int = 0, *, after: bool = False) -> Iterator["CrashPoints"]:
        """Kill at the commit of that number within the block, or count alone with 0."""
        self._at, self._after, self.commits = at, after, 0
        dialect: Any = self._engine.dialect
        commit = dialect.do_commit

        def do_commit(connection: Any) -> None:
            self.commits += self._writes
            here = self._writes and self.commits == self._at
            if here and not self._after:
                raise KilledError
            commit(connection)
            if here:
                raise KilledError

        sa.event.listen(self._engine, "commit", self._note)
        dialect.do_commit = do_commit
        try:
            yield self
        finally:
            del dialect.do_commit
            sa.event.remove(self._engine, "commit", self._note)

    def _note(self, connection: sa.Connection) -> None:
        self._writes = not connection.get_execution_options().get(READ_ONLY, False)
