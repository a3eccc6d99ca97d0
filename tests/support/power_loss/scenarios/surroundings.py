"""What scenarios share: what surrounds a service, and what is looked at in what is left."""

import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from batuta.sdb.tables import OUTBOX
from tests.support.power_loss.disk import Disk
from tests.support.power_loss.points import Recorded
from tests.support.power_loss.recorder import Recorder
from tests.support.servers import NatsServer


@dataclass(frozen=True)
class Surroundings:
    """Where a scenario is played.

    Parameters
    ----------
    folder : Path
        An empty folder for all of it.
    preloaded : Path
        What records, compiled.
    nats : NatsServer
        What is there outlives the loss, as on another machine.
    """

    folder: Path
    preloaded: Path
    nats: NatsServer

    def record(self) -> tuple[Recorder, Disk]:
        """Return a recorder of an empty disk, and that disk."""
        root = self.folder / "disk"
        root.mkdir()
        return Recorder(self.preloaded, root, self.folder / "log"), Disk(root)


class Scenario(Protocol):
    """Plays a service, and returns what it did to its disk."""

    def __call__(self, around: Surroundings) -> AbstractContextManager[Recorded]:
        """Play it; what surrounds the service is there until the context ends."""


def check_whole(engine: sa.Engine) -> None:
    """Assert that a database is whole."""
    with engine.connect() as connection:
        found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        assert found == ["ok"], found
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []


def is_all_announced(path: Path) -> bool:
    """Return whether nothing waits in an sdb's outbox; its files are only read.

    What others than the service do to its files is not recorded.
    """
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return not database.execute(f"SELECT 1 FROM {OUTBOX.name} LIMIT 1").fetchall()  # noqa: S608


def was_said(part: str, said: Sequence[bytes]) -> bool:
    """Return whether anything that was said has `part` in it."""
    wanted = part.encode()
    return any(wanted in each for each in said)
