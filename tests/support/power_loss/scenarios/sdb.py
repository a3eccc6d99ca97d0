"""The sdb: what it has answered or announced is there, its bytes too, and nothing is half there."""

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from batuta.sdb import SdbClient, SdbSettings
from batuta.sdb.check.check import Check, CheckOptions
from batuta.sdb.check.findings import Kind
from batuta.sdb.service import open_sdb
from batuta.sdb.store import INCOMING, open_store
from batuta.sdb.tables import CONTENTS, MIGRATIONS, OUTBOX, PRODUCTS
from batuta.service.database import open_database
from tests.support.power_loss.points import Recorded, Said
from tests.support.power_loss.scenarios.surroundings import (
    Surroundings,
    check_whole,
    is_all_announced,
    was_said,
)
from tests.support.power_loss.scenarios.upload import OBS_ID, Upload, check_upload
from tests.support.servers import free_port
from tests.support.services import ServiceProcess, serving
from tests.support.waiting import eventually_sync

SMALL: Final = 100
LARGE: Final = 20_000
SMALL_FILE_BYTES: Final = 4096
SENDERS: Final = 3
RECOVERED: Final = ("while-it-recovers-small", "while-it-recovers-large")
"""What is imported after a loss of power."""
REASON: Final = "withdrawn-because-of-a-stray-light"


@contextmanager
def sdb(around: Surroundings) -> Iterator[Recorded]:
    """Imports of all kinds, small and large, alone and together, an end and a kill between."""
    recorder, before = around.record()
    settings = settings_in(recorder.root, around.nats.url, port=free_port())
    sent = around.folder / "sent"
    sent.mkdir()
    settings = settings.model_copy(update={"reference_folders": [sent]})
    service = ServiceProcess("batuta.sdb:run", settings, recorder.environment)
    sender = Sender(service.start(), sent)
    try:
        sender.send("alone-small", SMALL)
        sender.send("alone-large", LARGE)
        sender.send("same-bytes", LARGE, content=sender.contents["alone-large"])
        sender.send("by-reference", LARGE, by_reference=True)
        upload = sender.begin_upload()
        upload.send(0, LARGE // 3)
        service.stop()
        service.start()
        sender.client.withdraw("IMAGE", "alone-large", 1, reason=REASON)
        _send_together(sender, "together")
        threads = _start_senders(sender, "killed")
        eventually_sync(lambda: _any_imported(sender, "killed"))
        with recorder.between_calls():
            service.kill()
        service.start()
        for thread in threads:
            thread.join()
        upload.send(LARGE // 3, LARGE // 2)
        upload.send(LARGE // 2, LARGE)
        sender.send("after", LARGE)
        service.stop()
        yield Recorded(recorder, before, SdbPromises(around.nats.url, sender.contents, sent))
    finally:
        sender.client.close()
        service.kill()


def settings_in(disk: Path, nats_url: str, port: int = 0) -> SdbSettings:
    """Return the settings of an sdb whose data is on that disk."""
    return SdbSettings(
        port=port,
        nats_url=nats_url,
        database_url=f"sqlite:///{disk}/data/sdb.db",
        store_url=str(disk / "data/store"),
        small_file_bytes=SMALL_FILE_BYTES,
    )


class Sender:
    """Imports files, and remembers what was sent."""

    def __init__(self, url: str, folder: Path) -> None:
        self.client = SdbClient(url)
        self.url = url
        self.contents: dict[str, bytes] = {}
        self.imported: list[str] = []
        self._folder = folder

    def begin_upload(self) -> Upload:
        """Begin an upload that goes on later."""
        self.contents[OBS_ID] = hashlib.shake_128(OBS_ID.encode()).digest(LARGE)
        return Upload(self.url, self.contents[OBS_ID])

    def send(
        self,
        obs_id: str,
        size: int,
        content: bytes | None = None,
        *,
        by_reference: bool = False,
    ) -> None:
        """Import a file for an observation of its own."""
        content = content or hashlib.shake_128(obs_id.encode()).digest(size)
        self.contents[obs_id] = content
        path = self._folder / obs_id
        path.write_bytes(content)
        with SdbClient(self.url) as client:
            client.import_file(
                path, "IMAGE", obs_id, processing_id=f"of-{obs_id}", by_reference=by_reference
            )
        self.imported.append(obs_id)


def _start_senders(sender: Sender, name: str) -> list[threading.Thread]:
    def send(of: int) -> None:
        for number in range(2):
            sender.send(f"{name}-{of}-{number}", LARGE if (of + number) % 2 else SMALL)

    threads = [threading.Thread(target=send, args=[of], daemon=True) for of in range(SENDERS)]
    for thread in threads:
        thread.start()
    return threads


def _send_together(sender: Sender, name: str) -> None:
    for thread in _start_senders(sender, name):
        thread.join()


def _any_imported(sender: Sender, name: str) -> bool:
    return any(each.startswith(name) for each in sender.imported)


class SdbPromises:
    """What must hold of an sdb that was imported to."""

    def __init__(self, nats_url: str, contents: dict[str, bytes], sent: Path) -> None:
        self._nats_url = nats_url
        self._contents = contents
        self._sent = sent
        self._uploaded = contents.get(OBS_ID, b"")
        self._digests = {
            obs_id: hashlib.sha256(content).hexdigest() for obs_id, content in contents.items()
        }

    def check(self, left: Path, said: Said) -> None:
        """Assert that all that was said is recorded, with its bytes, and told or to be told."""
        settings = settings_in(left, self._nats_url)
        store = open_store(settings)
        with open_database(settings.database_url, MIGRATIONS) as engine:
            check_whole(engine)
            check_upload(engine, left / "data/store" / INCOMING, self._uploaded, said)
            with engine.connect() as connection:
                rows = connection.execute(sa.select(PRODUCTS)).all()
                waiting = connection.scalars(sa.select(OUTBOX.c.event)).all()
                small = {row.sha256: row.content for row in connection.execute(sa.select(CONTENTS))}
        self._check_records({row.obs_id: row for row in rows}, said)
        for row in rows:
            path = store.local_path(row.sha256)
            content = path.read_bytes() if path is not None else small.get(row.sha256)
            assert content is not None, f"{row.obs_id} is recorded without its bytes"
            assert hashlib.sha256(content).hexdigest() == row.sha256, f"{row.obs_id} is damaged"
        _check_announcements(rows, said, waiting)

    def recover(self, left: Path, _said: Said, environment: Mapping[str, str]) -> "SdbPromises":
        """Announce the rest, and import more."""
        settings = settings_in(left, self._nats_url).model_copy(
            update={"reference_folders": [self._sent]}
        )
        service = ServiceProcess("batuta.sdb:run", settings, environment)
        sender = Sender(service.start(), self._sent)
        try:
            for obs_id, size in zip(RECOVERED, (SMALL, LARGE), strict=True):
                sender.send(obs_id, size)
            eventually_sync(lambda: is_all_announced(left / "data/sdb.db"))
            assert service.stop() == 0
        finally:
            sender.client.close()
            service.kill()
        return SdbPromises(self._nats_url, self._contents | sender.contents, self._sent)

    def check_restart(self, left: Path, _said: Said) -> None:
        """Assert that an sdb announces the rest, and that its own check finds nothing."""
        settings = settings_in(left, self._nats_url)
        with (
            serving(open_sdb, settings),
            open_database(settings.database_url, MIGRATIONS) as engine,
        ):
            eventually_sync(lambda: _count(engine, OUTBOX) == 0)
        findings = list(Check(settings, CheckOptions(grace_s=0)).run())
        named = [each for each in findings if each.kind not in (Kind.UNNAMED, Kind.TEMPORARY)]
        assert not named, named

    def _check_records(self, records: dict[str, sa.Row[tuple[object]]], said: Said) -> None:
        for obs_id, digest in self._digests.items():
            if was_said(f'"{obs_id}"', said):
                assert obs_id in records, f"{obs_id} was answered or announced, and is lost"
            if obs_id in records:
                assert records[obs_id].sha256 == digest, f"{obs_id} has other bytes"
        if was_said(REASON, said):
            assert records["alone-large"].withdrawn_reason == REASON


def _count(engine: sa.Engine, table: sa.Table) -> int:
    with engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def _check_announcements(
    rows: Sequence[sa.Row[tuple[object]]], said: Said, waiting: Sequence[object]
) -> None:
    announced = [each for each in said if each.startswith((b"HPUB data.", b"PUB data."))]
    for row in rows:
        was = was_said(f'"{row.obs_id}"', announced)
        assert was or any(row.obs_id in str(each) for each in waiting), f"{row.obs_id} is not told"
