"""The check of an sdb: each damage is found, told with what it concerns, and mended.

On SQLite with a folder, and on PostgreSQL with a bucket of a real S3 server.
"""

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
import pytest
import sqlalchemy as sa
from obstore.store import LocalStore

from batuta.cli.app import run
from batuta.sdb import SdbClient
from batuta.sdb.check import Check
from batuta.sdb.check.objects import StoredObject, StoredObjects, open_objects
from batuta.sdb.service import open_sdb
from batuta.sdb.store import object_path
from batuta.sdb.tables import CONTENTS, PRODUCTS
from tests.sdb.archives import LARGE, Archive, NewPlace
from tests.support.services import serving

ORPHAN = b"bytes that no record names" * 1000
ORPHAN_DIGEST = hashlib.sha256(ORPHAN).hexdigest()


def findings(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What the last check with --json has told, the summary left out."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()][:-1]


def told(found: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {(each["product"] or "", each["part"] or "", each["kind"]) for each in found}


Damage = Callable[[Archive], None]


def truncate(archive: Archive) -> None:
    archive.put(archive.path_of("B"), archive.content_of("B")[:-1])


def flip(archive: Archive) -> None:
    archive.flip_a_byte("B")


def delete(archive: Archive) -> None:
    obstore.delete(archive.objects, archive.path_of("B"))


def test_an_intact_archive_has_no_finding(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    assert archive.check() == 0
    line = capsys.readouterr().out
    assert line.startswith("6 records, 5 files, ")
    assert line.endswith("; nothing is wrong\n")


@pytest.mark.parametrize(
    ("damage", "kind", "quick"),
    [(truncate, "size", True), (flip, "digest", False), (delete, "missing", True)],
)
def test_damaged_bytes_are_found_and_repaired_from_a_copy(
    archive: Archive, capsys: pytest.CaptureFixture[str], damage: Damage, kind: str, quick: bool
) -> None:
    damage(archive)
    assert archive.check("--quick", "--json") == quick
    assert told(findings(capsys)) == ({("B", "file", kind)} if quick else set())
    assert archive.check() == 1
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith(f"B of run-1 v1: {archive.products['B'].sha256} {kind}: ")
    assert archive.check("--repair", archive.copy) == 0
    assert f"repaired from {archive.copy}" in capsys.readouterr().out
    assert archive.check() == 0
    assert archive.content_of("B") == LARGE[::-1]


def test_each_record_of_damaged_bytes_is_named(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.flip_a_byte("A")
    (quicklook,) = (
        key
        for key in archive.list_paths()
        if key.replace("/", "")[len("sha256") :]
        not in {each.sha256 for each in archive.products.values()}
    )
    obstore.delete(archive.objects, quicklook)
    assert archive.check("--json") == 1
    assert told(findings(capsys)) == {
        ("A", "file", "digest"),
        ("TWIN", "file", "digest"),
        ("PICTURED", "quicklook", "missing"),
    }


def test_a_copy_with_other_bytes_is_not_taken(
    archive: Archive, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    delete(archive)
    other = LocalStore(tmp_path / "other", mkdir=True)
    obstore.put(other, archive.path_of("B"), LARGE)
    assert archive.check("--repair", str(tmp_path / "other")) == 1
    assert "has other bytes, too" in capsys.readouterr().out
    assert archive.path_of("B") not in archive.list_paths()


def test_a_damaged_small_file_in_the_database_is_found_and_repaired(
    archive: Archive, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    digest = archive.products["SMALL"].sha256
    archive.execute(sa.update(CONTENTS).where(CONTENTS.c.sha256 == digest).values(content=b"smalL"))
    assert archive.check("--json") == 1
    assert told(findings(capsys)) == {("SMALL", "file", "digest")}
    copy = LocalStore(tmp_path / "small", mkdir=True)
    obstore.put(copy, object_path(digest), b"small")
    assert archive.check("--repair", str(tmp_path / "small")) == 0
    assert archive.check() == 0


def test_a_copy_of_a_small_file_that_cannot_be_read_ends_no_repair(
    archive: Archive, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    digest = archive.products["SMALL"].sha256
    archive.execute(sa.update(CONTENTS).where(CONTENTS.c.sha256 == digest).values(content=b"smalL"))
    archive.flip_a_byte("A")
    path = tmp_path / "copy" / object_path(digest)
    path.parent.mkdir(parents=True)
    path.symlink_to(path)
    assert archive.check("--json", "--repair", str(tmp_path / "copy")) == 1
    damaged = {(product, "file", "digest") for product in ("A", "TWIN", "SMALL")}
    assert told(findings(capsys)) == damaged


def test_bytes_that_no_record_names_are_set_aside_and_then_deleted(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.put(object_path(ORPHAN_DIGEST), ORPHAN)
    named = archive.list_paths() - {object_path(ORPHAN_DIGEST)}
    assert archive.check("--grace", "3600", "--collect") == 0
    assert "nothing is wrong" in capsys.readouterr().out
    assert archive.check("--json") == 1
    assert [(each["sha256"], each["kind"]) for each in findings(capsys)] == [
        (ORPHAN_DIGEST, "unnamed")
    ]
    assert archive.check("--collect") == 0
    (aside,) = archive.list_paths() - named
    assert aside.startswith(f"collected/{ORPHAN_DIGEST[:2]}/{ORPHAN_DIGEST[2:]}.")
    assert archive.check("--grace", "3600", "--collect") == 0
    assert aside in archive.list_paths()
    assert archive.check("--collect") == 0
    assert archive.list_paths() == named


def record_orphan(archive: Archive) -> None:
    """Commit the record of an import of the bytes that no record names."""
    record = archive.products["B"].model_dump(include={"obs_id", "media_type", "metadata"})
    created = archive.products["B"].created
    given = {"product": "LATE", "version": 1, "sha256": ORPHAN_DIGEST, "size": len(ORPHAN)}
    archive.execute(sa.insert(PRODUCTS).values(**record, **given, created=created, inputs=[]))


@pytest.mark.parametrize("before", [True, False], ids=["before the move", "after the move"])
def test_an_import_that_commits_during_the_check_has_its_bytes_at_once(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, *, before: bool
) -> None:
    archive.put(object_path(ORPHAN_DIGEST), ORPHAN)
    listed, moved = StoredObjects.with_prefix, StoredObjects.set_aside
    there: list[bool] = []

    def committed_before(objects: StoredObjects, prefix: str) -> Any:
        found = listed(objects, prefix)
        if before and ORPHAN_DIGEST in found[0]:
            record_orphan(archive)
        return found

    def committed_after(objects: StoredObjects, sha256: str, found: StoredObject) -> bool:
        done = moved(objects, sha256, found)
        record_orphan(archive)
        return done

    def settled(*_: object) -> None:
        there.append(object_path(ORPHAN_DIGEST) in archive.list_paths())

    monkeypatch.setattr(StoredObjects, "with_prefix", committed_before)
    monkeypatch.setattr(StoredObjects, "set_aside", committed_after)
    monkeypatch.setattr(Check, "_settle_what_was_set_aside", settled)
    assert archive.check("--collect") == 0
    assert there == [True]


def test_what_was_set_aside_is_put_back_where_a_record_names_it(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.put(object_path(ORPHAN_DIGEST), ORPHAN)
    assert archive.check("--collect") == 0
    # An import stored the same bytes just before they were moved, and has committed just after.
    record_orphan(archive)
    capsys.readouterr()
    assert archive.check() == 1
    assert "LATE of run-1 v1" in capsys.readouterr().out
    assert archive.check("--collect") == 0
    assert archive.check() == 0
    assert bytes(obstore.get(archive.objects, object_path(ORPHAN_DIGEST)).bytes()) == ORPHAN


def test_small_files_in_the_database_that_no_record_names_are_deleted(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.execute(sa.insert(CONTENTS).values(sha256="f" * 64, content=b"of nobody"))
    assert archive.check("--json") == 1
    assert [(each["sha256"], each["kind"]) for each in findings(capsys)] == [("f" * 64, "unnamed")]
    assert archive.check("--collect") == 0
    assert archive.check() == 0


def test_foreign_files_are_told_and_left(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = {"sha256/notes.txt", "sha256/ab/notes.txt", "sha256/other/file"}
    for path in foreign:
        archive.put(path, b"mine")
    assert archive.check("--collect", "--json") == 1
    found = findings(capsys)
    assert {each["kind"] for each in found} == {"foreign"}
    assert {each["path"] for each in found} == {*foreign - {"sha256/other/file"}, "sha256/other"}
    assert foreign <= archive.list_paths()


KILLED_IMPORT = """
import os, sys
from pathlib import Path
from batuta.sdb import SdbSettings
from batuta.sdb.store import open_store
settings = SdbSettings.model_validate_json(sys.argv[1])
store = open_store(settings)
stored, half = store.receive(), store.receive()
stored.write([b"bytes that no record names" * 1000])
store.put(stored)
stored.close()
half.write([b"half of an upload"])
print(half.path, flush=True)
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_import_leaves_is_found_and_collected(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [sys.executable, "-c", KILLED_IMPORT, archive.settings.model_dump_json()]
    killed = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert killed.returncode == -9
    left = Path(killed.stdout.strip())
    assert archive.check("--json") == 1
    assert {(each["kind"], each["path"]) for each in findings(capsys)} == {
        ("temporary", str(left)),
        ("unnamed", object_path(ORPHAN_DIGEST)),
    }
    assert left.exists()
    assert archive.check("--collect") == 0
    assert not left.exists()
    assert archive.check() == 0


def test_an_sdb_may_import_while_it_is_checked_and_collected(
    archive: Archive, tmp_path: Path
) -> None:
    # The same bytes: those that an import stores may have been there, unnamed, for long.
    contents = [ORPHAN + bytes([number % 3]) for number in range(12)]
    for content in set(contents):
        archive.put(object_path(hashlib.sha256(content).hexdigest()), content)
    done = threading.Event()
    with serving(open_sdb, archive.settings) as url, SdbClient(url) as client:

        def import_all() -> None:
            for number, content in enumerate(contents):
                file = tmp_path / f"import-{number}"
                file.write_bytes(content)
                client.import_file(file, product="LIVE", obs_id=f"run-{number}")
            done.set()

        thread = threading.Thread(target=import_all)
        thread.start()
        while not done.is_set():
            assert archive.check("--grace", "3600", "--collect") == 0
        thread.join()
        assert len(list(client.list(product="LIVE"))) == len(contents)
    assert archive.check() == 0


def test_an_object_that_was_replaced_since_it_was_listed_is_not_set_aside(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    path = folder / object_path(ORPHAN_DIGEST)
    path.parent.mkdir(parents=True)
    path.write_bytes(ORPHAN)
    objects: StoredObjects = open_objects(str(folder), "--store-url")
    listed = objects.find(ORPHAN_DIGEST)
    assert listed is not None
    again = tmp_path / "again"
    again.write_bytes(ORPHAN)
    again.replace(path)
    assert not objects.set_aside(ORPHAN_DIGEST, listed)
    assert path.read_bytes() == ORPHAN
    assert objects.set_aside(ORPHAN_DIGEST, objects.find(ORPHAN_DIGEST) or listed)


def test_places_that_do_not_exist_are_refused_and_not_created(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database, store = tmp_path / "none.db", tmp_path / "store"
    options = ["--database-url", f"sqlite:///{database}", "--store-url", str(store)]
    assert run(["sdb", "check", *options]) == 2
    assert "--store-url" in capsys.readouterr().err
    (store / "sha256").mkdir(parents=True)
    assert run(["sdb", "check", *options]) == 2
    assert f"--database-url sqlite:///{database}: no such file" in capsys.readouterr().err
    assert not database.exists()


def test_nothing_is_collected_by_a_database_without_records(
    new_place: NewPlace, capsys: pytest.CaptureFixture[str]
) -> None:
    place = new_place("sqlite and folder")
    path = Path(place.store_url) / object_path(ORPHAN_DIGEST)
    path.parent.mkdir(parents=True)
    path.write_bytes(ORPHAN)
    assert run(["sdb", "check", *place.arguments, "--grace", "0", "--collect"]) == 2
    assert "has no record" in capsys.readouterr().err
    assert path.exists()


def test_an_option_in_front_of_check_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sdb", "--store-url", "here", "check"]) == 2
    assert "--store-url: give it after check, not before" in capsys.readouterr().err
