"""`batuta backup` and `restore`: an orchestra that was lost with its machine."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from batuta.cli.app import run
from batuta.cli.deployment.restore_mark import MARK
from batuta.conductor.database.schema import MIGRATIONS, metadata
from batuta.sdb import SdbClient, SdbSettings
from batuta.sdb.backup import restore_backup
from batuta.sdb.service import open_sdb
from batuta.sdb.store import StoreError
from batuta.service.database import open_database, reading
from batuta.service.folder_lock import lock_folder
from tests.conductor.test_upgrades import fill
from tests.support.databases import migrated_sqlite
from tests.support.servers import NatsServer
from tests.support.services import serving

CONFIG = "conductor: {graph: graph.json}\n"
LARGE = bytes(range(256)) * 1000


@pytest.fixture
def lost(tmp_path: Path, shared_nats: NatsServer) -> Path:
    """The folder of an orchestra with a product and records of a conductor."""
    folder = tmp_path / "lost"
    data = folder / "batuta-data"
    data.mkdir(parents=True)
    (folder / "batuta.yaml").write_text(CONFIG)
    settings = SdbSettings(
        port=0,
        nats_url=shared_nats.url,
        database_url=migrated_sqlite(data / "sdb.db"),
        store_url=str(data / "products"),
    )
    with open_database(migrated_sqlite(data / "conductor.db"), MIGRATIONS) as engine:
        fill(engine)
    file = tmp_path / "file.bin"
    file.write_bytes(LARGE)
    with serving(open_sdb, settings) as url, SdbClient(url) as client:
        client.import_file(file, product="A", obs_id="run-1")
    return folder


@pytest.fixture
def found(tmp_path: Path) -> Path:
    """The folder of the orchestra that takes its place."""
    folder = tmp_path / "found"
    folder.mkdir()
    (folder / "batuta.yaml").write_text(CONFIG)
    return folder


def holds_in(folder: Path) -> int:
    url = f"sqlite:///{folder}/batuta-data/conductor.db"
    with open_database(url, MIGRATIONS) as engine, reading(engine) as connection:
        number = sa.func.count(metadata.tables["conductor_holds"].c.number)
        return connection.scalar(sa.select(number)) or 0


def test_products_and_the_records_of_the_conductor_are_restored_elsewhere(
    lost: Path,
    found: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # what is relative is of this folder
    options = ["--file", str(lost / "batuta.yaml"), "--keep", "1"]
    assert run(["backup", "copies", *options]) == 0
    assert run(["backup", "copies", *options]) == 0
    assert "1 record, 1 file: 0 copied, " in capsys.readouterr().out
    for part in ("conductor", "sdb"):
        assert len(list((tmp_path / "copies" / part / "snapshots").glob("*.db"))) == 1
    assert run(["restore", "copies", "--file", str(found / "batuta.yaml")]) == 0
    assert "1 record, 1 file: 1 copied, " in capsys.readouterr().out
    assert holds_in(found) == holds_in(lost) == 1
    (copy,) = (found / "batuta-data" / "products" / "sha256").glob("*/*")
    assert copy.read_bytes() == LARGE


def test_a_backup_that_is_cut_between_its_halves_leaves_the_one_before(
    lost: Path,
    found: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backup = str(tmp_path / "copies")
    options = ["--file", str(lost / "batuta.yaml"), "--keep", "1"]
    assert run(["backup", backup, *options]) == 0

    def cut(*_: object) -> None:
        raise StoreError("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr("batuta.cli.deployment.backups.take_backup", cut)
        assert run(["backup", backup, *options]) == 1
    assert "the disk is gone" in capsys.readouterr().err
    assert run(["restore", backup, "--file", str(found / "batuta.yaml")]) == 0
    assert holds_in(found) == 1


@pytest.mark.parametrize("is_done", [False, True], ids=["before the sdb", "after the sdb"])
def test_a_restore_that_is_cut_is_given_again_and_until_then_nothing_starts(
    lost: Path,
    found: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_done: bool,
) -> None:
    backup = str(tmp_path / "copies")
    assert run(["backup", backup, "--file", str(lost / "batuta.yaml")]) == 0
    (found / "graph.json").write_text('{"inputs": ["A"], "products": {}}')
    config = str(found / "batuta.yaml")

    def cut(*arguments: Any) -> None:
        if is_done:
            restore_backup(*arguments)
        raise StoreError("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr("batuta.cli.deployment.restoring.restore_backup", cut)
        assert run(["restore", backup, "--file", config]) == 1
    capsys.readouterr()
    told = f"a restore was interrupted (accepted: batuta restore {backup}; "
    for command in (["up", config], ["backup", backup, "--keep", "1", "--file", config]):
        assert run(command) == 2
        assert told in capsys.readouterr().err
    if is_done:
        assert run(["restore", backup, "--at", "2100-01-01T00:00", "--file", config]) == 2
        assert told in capsys.readouterr().err
    assert holds_in(found) == 0
    assert run(["restore", backup, "--file", config]) == 0
    assert (" was restored before" in capsys.readouterr().out) is is_done
    assert holds_in(found) == 1
    (copy,) = (found / "batuta-data" / "products" / "sha256").glob("*/*")
    assert copy.read_bytes() == LARGE
    assert not (found / "batuta-data" / MARK).exists()


def test_nothing_is_restored_if_the_records_of_the_conductor_are_damaged(
    lost: Path, found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = tmp_path / "copies"
    assert run(["backup", str(backup), "--file", str(lost / "batuta.yaml")]) == 0
    (database,) = (backup / "conductor" / "snapshots").glob("*.db")
    whole = database.read_bytes()
    database.write_bytes(whole[:-1] + b"?")
    options = ["--file", str(found / "batuta.yaml")]
    assert run(["restore", str(backup), *options]) == 1
    assert "its bytes have SHA-256" in capsys.readouterr().err
    assert not (found / "batuta-data" / MARK).exists()
    database.write_bytes(whole)
    assert run(["restore", str(backup), "--at", "2100-01-01T00:00", *options]) == 0
    assert holds_in(found) == 1


def test_nothing_is_restored_into_an_orchestra_that_has_records_or_runs(
    lost: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--file", str(lost / "batuta.yaml")]
    backup = str(tmp_path / "copies")
    assert run(["backup", backup, *options]) == 0
    assert run(["restore", backup, *options]) == 2
    assert "it has records (accepted: a database without)" in capsys.readouterr().err
    with lock_folder(lost / "batuta-data", "locked twice"):
        assert run(["restore", backup, *options]) == 2
    assert "an orchestra is running in it" in capsys.readouterr().err
