"""The sdb killed at each point of an import by reference: nothing is half there, nor stays."""

import hashlib
import itertools
from pathlib import Path

import pytest
import sqlalchemy as sa

from batuta.sdb import SdbSettings
from batuta.sdb.check.check import Check, CheckOptions
from batuta.sdb.check.findings import Finding, Kind
from batuta.sdb.tables import MIGRATIONS, OUTBOX, PRODUCTS
from batuta.service.database import open_database
from tests.sdb.conftest import MakeSettings
from tests.support.killed_imports import KilledImports

SMALL_FILE_BYTES = 2**16
SIZES = {"small": 100, "large": 2 * SMALL_FILE_BYTES + 1}
"""Bytes that are kept in the database, and in the store."""


@pytest.fixture
def settings(make_settings: MakeSettings, database_url: str, tmp_path: Path) -> SdbSettings:
    shared = tmp_path / "shared"
    shared.mkdir()
    return make_settings(database_url=database_url, reference_folders=[shared])


def findings(settings: SdbSettings, *, collect: bool = False) -> list[Finding]:
    """What a check says at once, of bytes that are new, too."""
    return list(Check(settings, CheckOptions(grace_s=0, collect=collect)).run())


def count(engine: sa.Engine, table: sa.Table) -> int:
    with engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def unnamed(engine: sa.Engine, settings: SdbSettings) -> list[Path]:
    """The files in the store that no record names, and those that were being received."""
    with engine.connect() as connection:
        named = set(connection.scalars(sa.select(PRODUCTS.c.sha256)))
    files = [path for path in Path(settings.store_url).rglob("*") if path.is_file()]
    return [path for path in files if path.parent.name + path.name not in named]


@pytest.mark.timeout(300)  # a service that is started and killed at each of dozens of points
@pytest.mark.parametrize(
    ("size", "collected"),
    # Of a small file, no kill leaves anything to be collected.
    [("small", False), ("large", False), ("large", True)],
    ids=["small", "large", "large, after a collection"],
)
def test_a_kill_at_any_point_leaves_nothing_half_done_and_a_repeat_gives_one_version(
    settings: SdbSettings, tmp_path: Path, size: str, *, collected: bool
) -> None:
    seen: list[str] = []
    with (
        KilledImports(settings) as imports,
        open_database(settings.database_url, MIGRATIONS) as engine,
    ):
        # A database without any record is none to collect by.
        assert imports.run(_new_file(tmp_path / "shared", "first", SIZES[size])).status == 201
        for point in itertools.count(1):
            said = _new_file(tmp_path / "shared", f"o{point}", SIZES[size])
            before = count(engine, PRODUCTS)
            killed = imports.run(said, point)
            if killed.at is None:
                assert (killed.status, killed.points) == (201, point - 1)
                break
            seen.append(killed.at)
            is_recorded = count(engine, PRODUCTS) > before
            left = unnamed(engine, settings)
            assert len(left) <= (not is_recorded), left
            if left and collected:
                _collect(settings)
                assert unnamed(engine, settings) == []
            repeated = imports.run(said)
            assert repeated.stored is not None
            assert repeated.status == (200 if is_recorded else 201), f"{killed}: {repeated}"
            assert repeated.stored["version"] == 1
            assert repeated.stored["sha256"] == said["sha256"]
            assert unnamed(engine, settings) == []
            assert count(engine, PRODUCTS) == before + 1 == count(engine, OUTBOX)
    # Each record has its bytes, all of them right, and nothing is left besides.
    assert findings(settings) == []
    assert {"before a commit", "after a commit"} <= set(seen)
    if size == "large":
        assert {"open", "copy_file_range", "fsync", "replace"} <= set(seen)


def _new_file(folder: Path, obs_id: str, size: int) -> dict[str, str]:
    """Write a file and return what is said of it."""
    content = hashlib.shake_128(obs_id.encode()).digest(size)
    path = folder / obs_id
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return {"product": "A", "obs_id": obs_id, "path": str(path), "sha256": digest}


def _collect(settings: SdbSettings) -> None:
    """Collect the bytes that no record names, whatever their age."""
    (told,) = findings(settings)
    assert told.kind in {Kind.UNNAMED, Kind.TEMPORARY}
    assert all(each.mended for each in findings(settings, collect=True))
    # What was set aside is deleted after as long again.
    assert findings(settings, collect=True) == []
