"""Backups of an sdb: taken while it runs, and what is lost without them made again from them.

From and to SQLite with a folder, and PostgreSQL with a bucket of a real S3 server.
"""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import obstore
import pytest
import sqlalchemy as sa

from batuta.cli.app import run
from batuta.sdb import SdbClient, StoredProduct
from batuta.sdb.service import open_sdb
from batuta.sdb.tables import CONTENTS as FILES_IN_DATABASE
from batuta.sdb.tables import METADATA, MIGRATIONS
from batuta.service.database import DatabaseError, open_database
from batuta.service.database_copy import copy_to_sqlite
from batuta.service.folder_lock import lock_folder
from tests.sdb.archives import (
    CONTENTS,
    LARGE,
    PLACES,
    Archive,
    NewPlace,
    Place,
    open_objects_of,
)
from tests.sdb.conftest import MakeSettings
from tests.support.disks import mounted_disk
from tests.support.services import serving


@pytest.fixture
def backup_url(archive: Archive) -> str:
    """Where to, of the same kind as the store."""
    return f"{archive.place.store_url}-backup"


def back_up(archive: Archive, backup_url: str, *options: str) -> int:
    return run(["sdb", "backup", *archive.place.arguments, *options, backup_url])


def restore(place: Place, backup_url: str, *options: str) -> int:
    return run(["sdb", "restore", *place.arguments, *options, backup_url])


def snapshots_of(backup_url: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """When the snapshots of a backup were taken."""
    capsys.readouterr()
    assert run(["sdb", "backups", backup_url]) == 0
    return [line.partition(" ")[0] for line in capsys.readouterr().out.splitlines()]


def bytes_in(backup_url: str) -> set[str]:
    """The paths of the files of products in a backup."""
    objects = open_objects_of(backup_url)
    return {each["path"] for page in obstore.list(objects, "sha256") for each in page}


@pytest.mark.parametrize("kind", PLACES)
def test_an_sdb_that_was_lost_is_restored_on_any_database_and_store(
    archive: Archive,
    backup_url: str,
    kind: str,
    new_place: NewPlace,
    make_settings: MakeSettings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert back_up(archive, backup_url) == 0
    assert "6 records, 5 files: 3 copied, " in capsys.readouterr().out
    place = new_place(kind)
    assert restore(place, backup_url) == 0
    assert "6 records, 5 files: 3 copied, " in capsys.readouterr().out
    assert run(["sdb", "check", *place.arguments]) == 0
    with serving(open_sdb, make_settings(**asdict(place))) as url, SdbClient(url) as client:
        for product, before in archive.products.items():
            file = tmp_path / "exported.bin"
            stored = client.export(product, "run-1", to=file)
            assert stored == before.model_copy(update={"uri": stored.uri})
            assert file.read_bytes() == CONTENTS[product]
        assert client.import_file(file, product="A", obs_id="run-1").version == 2


def test_files_that_a_backup_has_are_not_copied_again(
    archive: Archive,
    backup_url: str,
    new_place: NewPlace,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    assert back_up(archive, backup_url) == 0
    first = bytes_in(backup_url)
    import_file(archive, tmp_path, LARGE[1:])
    capsys.readouterr()
    assert back_up(archive, backup_url) == 0
    assert "7 records, 6 files: 1 copied, " in capsys.readouterr().out
    assert len(bytes_in(backup_url) - first) == 1
    oldest, newest = snapshots_of(backup_url, capsys)
    earlier = new_place("sqlite and folder")
    assert restore(earlier, backup_url, "--at", oldest) == 0
    assert "6 records, " in capsys.readouterr().out
    assert restore(earlier, backup_url) == 2
    assert "it has records (accepted: a database without)" in capsys.readouterr().err
    assert restore(new_place("sqlite and folder"), backup_url, "--at", newest) == 0
    assert restore(new_place("sqlite and folder"), backup_url, "--at", "2020-01-01") == 2
    assert "no snapshot taken by 2020-01-01" in capsys.readouterr().err


def import_file(archive: Archive, folder: Path, content: bytes) -> StoredProduct:
    """Import another file; its sdb runs for that only."""
    file = folder / "more.bin"
    file.write_bytes(content)
    with serving(open_sdb, archive.settings) as url, SdbClient(url) as client:
        return client.import_file(file, product="MORE", obs_id="run-1")


def test_the_rest_is_backed_up_and_restored_where_files_are_lost_or_damaged(
    archive: Archive, backup_url: str, new_place: NewPlace, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.flip_a_byte("B")
    obstore.delete(archive.objects, archive.path_of("TWIN"))
    assert back_up(archive, backup_url, "--json") == 1
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(each["product"], each["kind"]) for each in told[:-1]} == {
        ("A", "missing"),
        ("B", "digest"),
        ("TWIN", "missing"),
    }
    assert told[-1]["summary"]["missing"] == 2
    assert archive.path_of("B") not in bytes_in(backup_url)
    place = new_place("sqlite and folder")
    assert restore(place, backup_url) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert sorted(line.partition(" ")[0] for line in lines) == ["A", "B", "TWIN"]
    assert last.endswith("; 2 missing")
    # Once the sdb has them again, so does the next snapshot.
    assert archive.check("--repair", archive.copy) == 0
    assert back_up(archive, backup_url) == 0


def test_old_snapshots_are_deleted_with_what_only_they_name(
    archive: Archive,
    backup_url: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("batuta.sdb.backup.backup.GRACE_S", 0)
    assert back_up(archive, backup_url) == 0
    orphan = "sha256/00/" + "0" * 62
    obstore.put(open_objects_of(backup_url), orphan, b"what only an older snapshot named")
    import_file(archive, tmp_path, LARGE[1:])
    assert back_up(archive, backup_url, "--keep", "2") == 0
    assert orphan in bytes_in(backup_url)
    capsys.readouterr()
    assert back_up(archive, backup_url, "--keep", "2") == 0
    assert "; deleted 1 older snapshot and 1 file" in capsys.readouterr().out
    assert len(snapshots_of(backup_url, capsys)) == 2
    assert orphan not in bytes_in(backup_url)
    assert back_up(archive, backup_url) == 0
    assert ": 0 copied, " in capsys.readouterr().out


class Ahead(datetime):
    """A clock that is 18 hours ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(hours=18)


def test_what_a_clock_stored_that_was_ahead_is_older_than_what_came_after_it(
    archive: Archive,
    backup_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as jumped:
        jumped.setattr("batuta.sdb.backup.backup.datetime", Ahead)
        assert back_up(archive, backup_url) == 0
    (ahead,) = snapshots_of(backup_url, capsys)
    assert back_up(archive, backup_url) == 0
    assert snapshots_of(backup_url, capsys)[0] == ahead
    assert back_up(archive, backup_url, "--keep", "1") == 0
    (left,) = snapshots_of(backup_url, capsys)
    assert left < ahead


KILLED = """
import os, signal, sys
from batuta.cli.app import run
from batuta.sdb.store import FolderStore
put, left = FolderStore.put, [1]

def put_one_and_die(self, upload):
    put(self, upload)
    os.kill(os.getpid(), signal.SIGKILL)

FolderStore.put = put_one_and_die
run(sys.argv[1:])
"""


@pytest.mark.parametrize("archive", PLACES[:1], indirect=True)
def test_a_backup_and_a_restore_that_are_killed_continue(
    archive: Archive, backup_url: str, new_place: NewPlace, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sdb", "backup", *archive.place.arguments, backup_url]
    assert killed(arguments) == -signal.SIGKILL
    assert snapshots_of(backup_url, capsys) == []
    assert Path(backup_url, ".scratch").is_dir()
    assert run(arguments) == 0
    assert ": 2 copied, " in capsys.readouterr().out
    assert not Path(backup_url, ".scratch").exists()
    place = new_place("sqlite and folder")
    assert killed(["sdb", "restore", *place.arguments, backup_url]) == -signal.SIGKILL
    assert restore(place, backup_url) == 0
    assert ": 2 copied, " in capsys.readouterr().out
    assert run(["sdb", "check", *place.arguments, "--grace", "0"]) == 0


@pytest.mark.parametrize("archive", PLACES[:1], indirect=True)
@pytest.mark.parametrize("suffix", [".db", ".json"])
def test_a_backup_on_a_full_disk_leaves_no_copy_of_the_records_for_long(
    archive: Archive, backup_url: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name.endswith(f"{suffix}.part"):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    snapshots = Path(backup_url, "snapshots")
    with monkeypatch.context() as small:
        small.setattr("os.fsync", full)
        assert back_up(archive, backup_url) == 1
    assert [each.suffix for each in snapshots.iterdir()] == ([] if suffix == ".db" else [".db"])
    (snapshots / ".of-one-that-was-killed.db.part").touch()
    assert back_up(archive, backup_url) == 0
    assert sorted(each.suffix for each in snapshots.iterdir()) == [".db", ".json"]


def test_a_copy_of_records_is_complete_without_its_journal_or_is_none(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/sdb.db"
    with open_database(url, MIGRATIONS) as engine, engine.begin() as connection:
        for number in range(14):
            file = {"sha256": f"{number:064}", "content": os.urandom(900_000)}
            connection.execute(sa.insert(FILES_IN_DATABASE).values(file))
    tables = METADATA.sorted_tables
    # It has room for the journal, and for a part of the database beside it.
    with mounted_disk(tmp_path, 24) as disk, pytest.raises(DatabaseError, match="disk is full"):
        copy_to_sqlite(url, disk / "copy.db", MIGRATIONS, tables)
    copy_to_sqlite(url, tmp_path / "copy.db", MIGRATIONS, tables)
    assert not (tmp_path / "copy.db-wal").exists()


def killed(arguments: list[str]) -> int:
    """Run a command that is killed once it has stored a file; return how it ended."""
    command = [sys.executable, "-c", KILLED, *arguments, "--threads", "1"]
    return subprocess.run(command, check=False, timeout=60).returncode


def test_a_snapshot_taken_while_products_are_imported_has_all_of_their_files(
    archive: Archive, backup_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = threading.Event()
    imported: list[StoredProduct] = []

    def import_until_done(client: SdbClient) -> None:
        file = tmp_path / "live.bin"
        while not done.is_set():
            file.write_bytes(LARGE[: 2000 + len(imported)])
            imported.append(client.import_file(file, product="LIVE", obs_id="run-2"))

    with serving(open_sdb, archive.settings) as url, SdbClient(url) as client:
        importing = threading.Thread(target=import_until_done, args=[client])
        importing.start()
        try:
            assert back_up(archive, backup_url) == 0
            before = len(imported)
            assert back_up(archive, backup_url, "--json") == 0
        finally:
            done.set()
            importing.join()
    *_, last = capsys.readouterr().out.splitlines()
    assert json.loads(last)["summary"]["snapshot"]["records"] >= 6 + before


@pytest.mark.parametrize("archive", PLACES[:1], indirect=True)
def test_a_snapshot_is_an_sdb_that_can_be_checked_as_it_stands(
    archive: Archive, backup_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert back_up(archive, backup_url) == 0
    (database,) = Path(backup_url, "snapshots").glob("*.db")
    assert oct(database.stat().st_mode & 0o777) == "0o600"
    options = ["--database-url", f"sqlite:///{database}", "--store-url", backup_url]
    assert run(["sdb", "check", *options]) == 0
    assert "nothing is wrong" in capsys.readouterr().out


@pytest.mark.parametrize("archive", PLACES[:1], indirect=True)
def test_a_damaged_snapshot_is_told_and_nothing_is_restored(
    archive: Archive, backup_url: str, new_place: NewPlace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert back_up(archive, backup_url) == 0
    (database,) = Path(backup_url, "snapshots").glob("*.db")
    content = bytearray(database.read_bytes())
    content[len(content) // 2] ^= 1
    database.write_bytes(content)
    place = new_place("sqlite and folder")
    assert restore(place, backup_url) == 1
    assert f"snapshots/{database.name}: its bytes have SHA-256 " in capsys.readouterr().err
    database.with_suffix(".json").write_text("{}")
    assert restore(place, backup_url) == 1
    assert f"{database.stem}.json: does not describe a snapshot" in capsys.readouterr().err
    assert not Path(place.store_url).exists()


def test_a_snapshot_with_a_damaged_description_is_named_and_the_others_are_of_use(
    archive: Archive,
    backup_url: str,
    new_place: NewPlace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("batuta.sdb.backup.backup.GRACE_S", 0)
    for _ in range(2):
        assert back_up(archive, backup_url) == 0
    good, damaged = descriptions_in(backup_url)
    only_there = "sha256/00/" + "0" * 62
    obstore.put(open_objects_of(backup_url), only_there, b"what the damaged one may name")
    obstore.put(open_objects_of(backup_url), damaged, b"{" + b"[" * 60_000)
    capsys.readouterr()
    assert run(["sdb", "backups", backup_url]) == 1
    listed = capsys.readouterr()
    assert f"{damaged}: does not describe a snapshot" in listed.err
    (line,) = listed.out.splitlines()
    place = new_place("sqlite and folder")
    assert restore(place, backup_url) == 1
    told = capsys.readouterr().err
    assert f"{damaged}: does not describe a snapshot (an older one: --at " in told
    instead = told.partition("--at ")[2].partition(")")[0]
    assert restore(place, backup_url, "--at", instead) == 0
    assert f"restored snapshot {line.partition(' ')[0]}" in capsys.readouterr().out
    assert back_up(archive, backup_url, "--keep", "1") == 0
    assert "; deleted 1 older snapshot and 0 files" in capsys.readouterr().out
    left = descriptions_in(backup_url)
    assert len(left) == 2
    assert good not in left
    assert only_there in bytes_in(backup_url)
    assert restore(new_place("sqlite and folder"), backup_url) == 0
    # Once it is deleted, what it left goes as well.
    obstore.delete(open_objects_of(backup_url), damaged)
    assert back_up(archive, backup_url, "--keep", "1") == 0
    assert only_there not in bytes_in(backup_url)


def test_a_database_that_lost_its_description_is_removed_by_a_later_backup(
    archive: Archive, backup_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert back_up(archive, backup_url) == 0
    (first,) = descriptions_in(backup_url)
    orphan = first.replace(".json", ".db")
    # As a run leaves it that is killed between the two.
    obstore.delete(open_objects_of(backup_url), first)
    if "://" in backup_url:
        # Another run may be about to describe it.
        assert back_up(archive, backup_url) == 0
        assert orphan in files_of_snapshots(backup_url)
    monkeypatch.setattr("batuta.sdb.backup.snapshots.GRACE", timedelta(0))
    assert back_up(archive, backup_url) == 0
    left = files_of_snapshots(backup_url)
    assert orphan not in left
    assert {each.rpartition(".")[0] for each in left if each.endswith(".db")} == {
        each.rpartition(".")[0] for each in descriptions_in(backup_url)
    }


@pytest.mark.parametrize("archive", PLACES[:1], indirect=True)
def test_an_sdb_without_records_does_not_rotate_the_snapshots_of_one_that_had_some_away(
    archive: Archive, backup_url: str, new_place: NewPlace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert back_up(archive, backup_url) == 0
    before = files_of_snapshots(backup_url)
    empty = new_place("sqlite and folder")
    Path(empty.store_url, "sha256").mkdir(parents=True)
    arguments = ["sdb", "backup", *empty.arguments, backup_url]
    assert run([*arguments, "--keep", "1"]) == 2
    assert "--keep: the sdb has no records, and the newest snapshot " in capsys.readouterr().err
    assert files_of_snapshots(backup_url) == before
    # Nothing is lost by one more; from then on it is meant.
    assert run(arguments) == 0
    assert run([*arguments, "--keep", "2"]) == 0


def files_of_snapshots(backup_url: str) -> list[str]:
    """The paths of the databases and descriptions of snapshots."""
    objects = obstore.list_with_delimiter(open_objects_of(backup_url), "snapshots")["objects"]
    return sorted(each["path"] for each in objects)


def descriptions_in(backup_url: str) -> list[str]:
    """The paths of the descriptions of snapshots, the oldest first."""
    return [each for each in files_of_snapshots(backup_url) if each.endswith(".json")]


@pytest.mark.parametrize("archive", PLACES[:1], indirect=True)
def test_a_backup_is_written_by_one_run_at_a_time(
    archive: Archive, backup_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with lock_folder(Path(backup_url), "locked twice"):
        assert back_up(archive, backup_url) == 2
    assert "another backup is being written to it" in capsys.readouterr().err


@pytest.mark.parametrize("archive", PLACES[:1], indirect=True)
def test_what_can_be_no_backup_is_refused(
    archive: Archive, tmp_path: Path, new_place: NewPlace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert back_up(archive, archive.place.store_url) == 2
    assert "DESTINATION" in (told := capsys.readouterr().err)
    assert "it is the store of this sdb" in told
    assert back_up(archive, "ftp://elsewhere/folder") == 2
    assert "ftp://elsewhere/folder" in capsys.readouterr().err
    assert restore(new_place("sqlite and folder"), str(tmp_path / "none")) == 2
    assert "no such folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert restore(new_place("sqlite and folder"), str(tmp_path / "empty")) == 2
    assert "no snapshot" in capsys.readouterr().err
    missing = Place(f"sqlite:///{tmp_path}/none.db", archive.place.store_url, tmp_path / "scratch")
    assert run(["sdb", "backup", *missing.arguments, str(tmp_path / "backup")]) == 2
    assert "none.db: no such file" in capsys.readouterr().err
    assert not (tmp_path / "backup").exists()
