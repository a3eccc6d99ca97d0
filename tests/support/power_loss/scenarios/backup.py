"""Backups of an sdb: those that are said to be complete are, and the sdb loses nothing by them."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import sqlalchemy as sa

from batuta.sdb import SdbSettings
from batuta.sdb.backup import RestoreOptions, SdbSnapshot, open_snapshots, restore_backup
from batuta.sdb.check.findings import Finding
from batuta.sdb.store import open_store
from batuta.sdb.tables import CONTENTS, MIGRATIONS, PRODUCTS
from batuta.service.database import open_database
from tests.support.power_loss.points import Recorded, Said
from tests.support.power_loss.recorder import Recorder
from tests.support.power_loss.scenarios.sdb import (
    LARGE,
    SMALL,
    SdbPromises,
    Sender,
    settings_in,
)
from tests.support.power_loss.scenarios.surroundings import Surroundings
from tests.support.servers import free_port
from tests.support.services import ServiceProcess

PLACE: Final = "other/backup"
FIRST: Final = ("first-small", "first-large")
SECOND: Final = ("second-small", "second-large")
_SUMMARY: Final = b'{"summary":'


@contextmanager
def backup(around: Surroundings) -> Iterator[Recorded]:
    """Two backups, the second while the sdb runs and in place of the first, and one killed."""
    recorder, before = around.record()
    (around.folder / "sent").mkdir()
    settings = settings_in(recorder.root, around.nats.url, port=free_port())
    service = ServiceProcess("batuta.sdb:run", settings, recorder.environment)
    sender = Sender(service.start(), around.folder / "sent")
    try:
        _send(sender, FIRST)
        service.stop()
        _back_up(recorder.root, recorder.environment)
        service.start()
        _send(sender, SECOND)
        _kill_one(recorder)
        _back_up(recorder.root, recorder.environment, "--keep", "1")
        service.stop()
    finally:
        sender.client.close()
        service.kill()
    inner = SdbPromises(around.nats.url, sender.contents, around.folder / "sent")
    yield Recorded(recorder, before, _Promises(inner))


def _send(sender: Sender, obs_ids: tuple[str, str]) -> None:
    for obs_id, size in zip(obs_ids, (SMALL, LARGE), strict=True):
        sender.send(obs_id, size)


def _command(disk: Path, *options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "batuta", "sdb", "backup", str(disk / PLACE), "--json"),
        *("--database-url", f"sqlite:///{disk}/data/sdb.db"),
        *("--store-url", str(disk / "data/store"), *options),
    ]


def _back_up(disk: Path, environment: Mapping[str, str], *options: str) -> None:
    subprocess.run(
        _command(disk, *options),
        env={**os.environ, **environment},
        check=True,
        stdout=subprocess.PIPE,
    )


def _kill_one(recorder: Recorder) -> None:
    """Kill a backup once it has begun to write."""
    process = subprocess.Popen(
        _command(recorder.root),
        env={**os.environ, **recorder.environment},
        stdout=subprocess.DEVNULL,
    )
    scratch = recorder.root / PLACE / ".scratch"
    ended = threading.Event()
    while process.poll() is None and not (scratch / "sdb.db").exists():
        ended.wait(0.01)
    with recorder.between_calls(), suppress(ProcessLookupError):
        process.kill()
    process.wait()


class _Promises:
    """What must hold of an sdb and its backup."""

    def __init__(self, sdb: SdbPromises) -> None:
        self._sdb = sdb

    def check(self, left: Path, said: Said) -> None:
        """Assert that each snapshot is whole, that those told of are there, and the sdb's own."""
        self._sdb.check(left, said)
        told = _told(said)
        if not (left / PLACE).is_dir():
            assert not told, f"{told} were told of, and the backup is lost"
            return
        snapshots = open_snapshots(str(left / PLACE), "BACKUP", SdbSnapshot)
        listed = snapshots.list()
        assert not listed.damaged
        there = listed.snapshots
        for each in there:
            _check_snapshot(left, each)
        # A later one may have been taken in place of them.
        latest = max((each.taken for each in there), default=None)
        missing = [each for each in told if latest is None or each > latest]
        assert not missing, f"told to be taken, and lost: {missing}"

    def recover(self, left: Path, said: Said, environment: Mapping[str, str]) -> "_Promises":
        """Start the sdb, and back it up."""
        sdb = self._sdb.recover(left, said, environment)
        _back_up(left, environment, "--keep", "1")
        return _Promises(sdb)

    def check_restart(self, left: Path, said: Said) -> None:
        """Assert that another backup can be taken of what an sdb has, and restored."""
        self._sdb.check_restart(left, said)
        _back_up(left, {})
        recorded = _digests(settings_in(left, ""))
        with TemporaryDirectory() as path:
            settings = settings_in(Path(path), "")
            (Path(path) / "data").mkdir()
            lost: list[Finding] = []
            options = RestoreOptions(source=str(left / PLACE))
            restore_backup(settings, options, lost.append)
            assert not lost, lost
            assert _digests(settings) == recorded
            _check_bytes(settings, settings)


def _told(said: Said) -> list[datetime]:
    """Return when the snapshots were taken that commands have told of."""
    lines = [line for each in said for line in each.splitlines() if line.startswith(_SUMMARY)]
    summaries = [json.loads(line)["summary"] for line in lines]
    assert all(each["missing"] == 0 for each in summaries), summaries
    return [datetime.fromisoformat(each["snapshot"]["taken"]) for each in summaries]


def _check_snapshot(left: Path, snapshot: SdbSnapshot) -> None:
    """Assert that its records are there, and the bytes of all."""
    with TemporaryDirectory() as path:
        open_snapshots(str(left / PLACE), "BACKUP", SdbSnapshot).fetch(
            snapshot, Path(path) / "sdb.db"
        )
        records = settings_in(left, "").model_copy(
            update={"database_url": f"sqlite:///{path}/sdb.db"}
        )
        there = records.model_copy(update={"store_url": str(left / PLACE)})
        count = _check_bytes(records, there)
    assert count == snapshot.records, f"{count} of {snapshot.records} records"
    assert snapshot.missing == 0, snapshot


def _check_bytes(records: SdbSettings, stored: SdbSettings) -> int:
    """Assert that a store has the bytes of all records; return how many these are."""
    store = open_store(stored)
    with open_database(records.database_url, MIGRATIONS) as engine, engine.connect() as connection:
        rows = connection.execute(sa.select(PRODUCTS)).all()
        small = {row.sha256: row.content for row in connection.execute(sa.select(CONTENTS))}
    for row in rows:
        path = store.local_path(row.sha256)
        content = path.read_bytes() if path is not None else small.get(row.sha256)
        assert content is not None, f"{row.obs_id} is recorded without its bytes"
        assert hashlib.sha256(content).hexdigest() == row.sha256, f"{row.obs_id} is damaged"
    return len(rows)


def _digests(settings: SdbSettings) -> dict[str, str]:
    with open_database(settings.database_url, MIGRATIONS) as engine, engine.connect() as connection:
        rows = connection.execute(sa.select(PRODUCTS.c.obs_id, PRODUCTS.c.sha256))
        return {row.obs_id: row.sha256 for row in rows}
