"""Uploads by the tus protocol: expired, bounded, collected; several at once, and processes."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from batuta.sdb import SdbSettings
from batuta.sdb.service import open_sdb
from batuta.sdb.tables import MIGRATIONS, UPLOADS
from batuta.sdb.uploads.partial_file import HashedPart, PartialFile, open_partial
from batuta.service.database import open_database
from tests.sdb.archives import Archive
from tests.sdb.conftest import MakeSettings
from tests.sdb.test_imports import kept, metric
from tests.sdb.tus import (
    CONTENT,
    DIGEST,
    MIB,
    TUS,
    append,
    ask_to_create,
    begin_to_send,
    complete_upload,
    create,
    execute,
    listed,
    offset_of,
    partial_files,
    receiving_folder,
    tus,
)
from tests.support.services import ServiceProcess, serving
from tests.support.waiting import eventually_sync

__all__ = ["tus"]


def test_what_has_expired_is_told_and_deleted(settings: SdbSettings) -> None:
    with serving(open_sdb, settings) as url, httpx.Client(base_url=url, timeout=60) as tus:
        expired, fresh = (create(tus, len(CONTENT)) for _ in range(2))
        for path in (expired, fresh):
            append(tus, path, 0, CONTENT[:MIB])
        name = expired.rpartition("/")[2]
        past = datetime.now(UTC) - timedelta(seconds=1)
        execute(settings, sa.update(UPLOADS).where(UPLOADS.c.id == name).values(expires=past))
        answer = append(tus, expired, MIB, CONTENT[MIB:])
        assert answer.status_code == 410
        assert f"upload {name}: has expired on" in answer.json()["detail"]
        assert len(partial_files(settings)) == 2
    orphan = receiving_folder(settings) / f"{'0' * 32}.upload"
    orphan.write_bytes(b"of no record")
    os.utime(orphan, (1, 1))
    # Neither of these can be deleted; what comes after them is.
    for stuck in (f"{'1' * 32}.upload", f"{'2' * 32}.upload"):
        (receiving_folder(settings) / stuck).mkdir()
        os.utime(receiving_folder(settings) / stuck, (1, 1))
    with open_database(settings.database_url, MIGRATIONS) as engine, engine.begin() as connection:
        row = connection.execute(sa.select(UPLOADS).where(UPLOADS.c.id == name)).one()._mapping
        stuck_row = {**row, "id": "1" * 32}
        connection.execute(sa.delete(UPLOADS).where(UPLOADS.c.id == name))
        connection.execute(sa.insert(UPLOADS), [stuck_row, dict(row)])
    with serving(open_sdb, settings) as url, httpx.Client(base_url=url, timeout=60) as tus:
        assert eventually_sync(
            lambda: (
                [p.name for p in partial_files(settings) if p.is_file()]
                == [f"{fresh.rpartition('/')[2]}.upload"]
            )
        )
        assert eventually_sync(lambda: tus.head(expired, headers=TUS).status_code == 404)
        assert append(tus, fresh, MIB, CONTENT[MIB:]).status_code == 204


def test_uploads_are_bounded_in_number_and_by_quotas(
    make_settings: MakeSettings, store_folder: Path
) -> None:
    settings = make_settings(max_uploads=3, quota_bytes=4 * MIB)
    with serving(open_sdb, settings) as url, httpx.Client(base_url=url, timeout=60) as tus:
        too_large = ask_to_create(tus, 4 * MIB + 1)
        assert too_large.status_code == 507
        assert "quota_bytes" in too_large.json()["detail"]
        first, second, _ = (create(tus, 3 * MIB) for _ in range(3))
        assert "max_uploads: 3 uploads" in ask_to_create(tus, 1).json()["detail"]
        assert append(tus, first, 0, CONTENT[: 2 * MIB]).status_code == 204
        # Together they would be more than may be kept.
        told = append(tus, second, 0, CONTENT[: 2 * MIB])
        assert (told.status_code, offset_of(tus, second)) == (507, 0)
        assert tus.delete(first, headers=TUS).status_code == 204
        assert append(tus, second, 0, CONTENT[: 2 * MIB]).status_code == 204
        # What is recorded meanwhile leaves no room: it waits for that, and nothing is lost.
        assert tus.post("/products/B/o1", content=bytes(2 * MIB)).status_code == 201
        assert append(tus, second, 2 * MIB, bytes(MIB)).status_code == 507
        assert offset_of(tus, second) == 2 * MIB
        assert len(kept(store_folder)) == 2


def test_many_uploads_at_once_are_all_imported(tus: httpx.Client) -> None:
    def send(number: int) -> int:
        path = create(tus, len(CONTENT), obs_id=f"o{number}")
        for start in range(0, len(CONTENT), MIB):
            assert append(tus, path, start, CONTENT[start : start + MIB]).status_code == 204
        return int(tus.get(path).json()["stored"]["version"])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(send, range(16))) == [1] * 16


def test_of_requests_at_once_for_one_upload_none_spoils_it(tus: httpx.Client) -> None:
    path = create(tus, len(CONTENT), sha256=DIGEST)

    def send(_: int) -> set[int]:
        statuses = set()
        while (start := int(tus.get(path).json()["offset"])) < len(CONTENT):
            statuses.add(append(tus, path, start, CONTENT[start : start + MIB // 2]).status_code)
        return statuses

    with ThreadPoolExecutor(4) as pool:
        assert set().union(*pool.map(send, range(4))) <= {204, 409}
    assert [each["sha256"] for each in listed(tus)] == [DIGEST]


def test_an_upload_that_another_process_receives_is_locked(
    make_settings: MakeSettings,
) -> None:
    """Two of one database and one folder."""
    settings = make_settings()
    service = ServiceProcess("batuta.sdb:run", settings)
    with (
        serving(open_sdb, settings) as url,
        httpx.Client(base_url=url, timeout=60) as tus,
        httpx.Client(base_url=service.start(), timeout=60) as other,
    ):
        path = create(tus, len(CONTENT), sha256=DIGEST)
        with begin_to_send(other, path, 0, len(CONTENT), CONTENT[:MIB]):
            eventually_sync(lambda: metric(other, "batuta_sdb_receiving") == 1)
            answer = append(tus, path, 0, CONTENT)
            assert answer.status_code == 423
        assert eventually_sync(lambda: offset_of(tus, path) == MIB)
        assert append(tus, path, MIB, CONTENT[MIB:]).status_code == 204
        assert other.get(path).json()["stored"]["sha256"] == DIGEST
    assert service.stop() == 0


def test_an_upload_that_another_process_imports_is_not_deleted(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings()
    with serving(open_sdb, settings) as url, httpx.Client(base_url=url, timeout=60) as tus:
        path, file = complete_upload(tus, settings)
        with ExitStack() as other:
            other.enter_context(closing(PartialFile(file)))

            def open_and_give_up(folder: Path, name: str, hashed: HashedPart | None) -> PartialFile:
                # The other process cannot import it, just when it was seen to be busy with it.
                with other:
                    return open_partial(folder, name, hashed)

            monkeypatch.setattr("batuta.sdb.uploads.uploads.open_partial", open_and_give_up)
            assert tus.head(path, headers=TUS).status_code == 423
        assert tus.get(path).json()["stored"]["sha256"] == DIGEST


def test_a_check_knows_the_parts_of_uploads(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(open_sdb, archive.settings) as url, httpx.Client(base_url=url) as tus:
        path = create(tus, len(CONTENT))
        append(tus, path, 0, CONTENT[:MIB])
    assert archive.check() == 0
    unnamed = receiving_folder(archive.settings) / f"{'0' * 32}.upload"
    unnamed.write_bytes(b"of no record")
    os.utime(unnamed, (1, 1))
    capsys.readouterr()
    assert archive.check() == 1
    assert f"{unnamed}: temporary: a part of an upload that no record names" in (
        capsys.readouterr().out
    )
    assert archive.check("--collect") == 0
    assert not unnamed.exists()
    with serving(open_sdb, archive.settings) as url, httpx.Client(base_url=url) as tus:
        assert append(tus, path, MIB, CONTENT[MIB:]).status_code == 204
