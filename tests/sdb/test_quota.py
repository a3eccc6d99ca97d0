"""Quotas: what would pass one is refused with 507, before it is read where that is known."""

import itertools
import json
import shutil
from collections import namedtuple
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from batuta.cli.app import run
from batuta.cli.options import read_settings
from batuta.errors import ConfigurationError
from batuta.messaging import utc_now
from batuta.sdb import SdbSettings
from batuta.sdb.quota import Limits, Quota
from batuta.sdb.service import open_sdb
from batuta.sdb.tables import MIGRATIONS, PRODUCTS, QUICKLOOKS, USAGE
from batuta.sdb.uploads.records import (
    UploadRecord,
    delete_upload,
    insert_upload,
    received_bytes,
    update_upload,
)
from batuta.sdb.usage import total_bytes, wrong_usage
from batuta.service.database import open_database
from tests.sdb.archives import Archive, picture
from tests.sdb.conftest import MakeSettings
from tests.sdb.test_imports import kept, metric
from tests.sdb.test_repeats import send_body, send_form
from tests.support.interleaving import changed_after
from tests.support.services import serving
from tests.support.waiting import eventually_sync

QUOTA = 1_000_000
LARGE = QUOTA - 100_000
"""Kept in the store, and all but a tenth of the quota."""


@pytest.fixture
def limited(make_settings: MakeSettings, database_url: str) -> Iterator[httpx.Client]:
    """An sdb with a quota of a megabyte, and 5,000 bytes for B, on each database."""
    settings = make_settings(
        database_url=database_url, quota_bytes=QUOTA, product_quotas={"B": 5_000}
    )
    with serving(open_sdb, settings) as url, httpx.Client(base_url=url, timeout=30) as http:
        yield http


def detail(answer: httpx.Response) -> str:
    assert answer.status_code == 507
    text = str(answer.json()["detail"])
    assert "\n" not in text
    return text


def health(http: httpx.Client) -> dict[str, str]:
    return dict(http.get("/health").json().get("problems", {}))


def test_an_import_beyond_the_quota_is_refused_and_leaves_nothing(
    limited: httpx.Client, store_folder: Path
) -> None:
    assert send_body(limited, bytes(LARGE)).status_code == 201
    before = [path for path in store_folder.rglob("*") if path.is_file()]
    # By its announced length, in a form that hides its size, in pieces of no announced length.
    pieces = (bytes(200_000) for _ in range(20))
    for send in (
        partial(send_body, content=bytes(LARGE) + b"1"),
        partial(send_form, content=bytes(LARGE) + b"2"),
        lambda http: http.post("/products/A/o1", content=pieces),
    ):
        told = detail(send(limited))
        assert told.startswith(f"store: quota_bytes: {QUOTA} bytes may be kept, {LARGE} are")
    # Small ones, which are kept in the database, up to the last byte.
    assert send_body(limited, bytes(50_000)).status_code == 201
    assert "has 50001 or more; nothing was recorded" in detail(send_body(limited, bytes(50_001)))
    assert send_form(limited, bytes(50_000) + b"", metadata='{"a": 1}').status_code == 201
    assert detail(send_form(limited, b"1"))
    assert [path for path in store_folder.rglob("*") if path.is_file()] == before
    assert metric(limited, "batuta_sdb_stored_bytes") == QUOTA
    assert metric(limited, "batuta_sdb_quota_bytes") == QUOTA
    assert metric(limited, 'batuta_sdb_refused_uploads_total{status="507"}') == 5


def test_what_is_sent_again_needs_no_room(limited: httpx.Client) -> None:
    first = send_body(limited, bytes(5_000), processing_id="p1", provider="maker")
    assert first.status_code == 201
    small = limited.post("/products/B/o1", content=bytes(5_000))
    assert small.status_code == 201
    assert limited.post("/products/B/o1", content=bytes(5_000)).json() == small.json()
    again = send_body(limited, bytes(4_000), processing_id="p1", provider="maker")
    assert (again.status_code, again.json()) == (200, first.json())
    told = detail(limited.post("/products/B/o1", content=bytes(4_999)))
    assert told.startswith("store: product_quotas: B: 5000 bytes may be kept, 5000 are")
    assert detail(send_form(limited, b"x", product="B"))
    assert send_body(limited, b"x").status_code == 201


def test_a_large_file_that_may_have_been_sent_before_is_received(limited: httpx.Client) -> None:
    """By its length, or by its processing; another is refused in the end."""

    def send(content: bytes, obs_id: str, **said: str) -> int:
        path = f"/products/C/{obs_id}"
        return limited.post(path, content=content, params=said).status_code

    assert send(bytes(450_000), "by-hand") == 201
    assert send(bytes(450_000), "made", processing_id="p2") == 201
    assert send(bytes(450_000), "by-hand") == 200
    assert send(b"1" * 450_000, "by-hand") == 507
    assert send(bytes(450_001), "by-hand") == 507
    assert send(b"1" * 450_001, "made", processing_id="p2") == 200
    assert send(bytes(450_000), "made", processing_id="p3") == 507
    assert metric(limited, "batuta_sdb_stored_bytes") == 900_000


def test_no_number_of_senders_passes_a_quota(limited: httpx.Client) -> None:
    def send(number: int) -> int:
        content = number.to_bytes(4) * 20_000
        return send_body(limited, content, processing_id=f"p{number}").status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(send, range(30)))
    # Some may be refused for others that were being received, and refused as well.
    assert set(statuses) == {201, 507}
    assert metric(limited, "batuta_sdb_stored_bytes") == statuses.count(201) * 80_000 <= QUOTA


def test_an_upload_that_is_imported_while_another_is_looked_at_is_counted_once(
    database_url: str, tmp_path: Path
) -> None:
    upload = UploadRecord(
        id="first",
        owner=None,
        fingerprint=None,
        length=60,
        fields={},
        received=60,
        expires=utc_now(),
        product="A",
        obs_id="o1",
    )

    with open_database(database_url, MIGRATIONS) as engine:
        quota = Quota(engine, Limits(total_bytes=100), tmp_path)

        def wait_to_be_imported() -> None:
            with engine.begin() as connection:
                connection.execute(sa.delete(USAGE))
                delete_upload(connection, upload.id)
                assert insert_upload(connection, upload, at_most=1)

        def be_imported() -> None:
            with engine.begin() as connection:
                connection.execute(sa.insert(USAGE), {"product": "A", "bytes": 60})
                update_upload(connection, upload.id, version=1)

        for number in itertools.count(1):
            wait_to_be_imported()
            with quota.receiving("A", 40) as reception:
                reception.read_others = partial(received_bytes, besides="second")
                with changed_after(engine, number, be_imported) as is_imported:
                    reception.check()
                assert reception.used.total_bytes + reception.others_bytes == 60
            if not is_imported():
                break
        assert number > 2


def test_health_says_when_a_quota_is_near(limited: httpx.Client) -> None:
    assert eventually_sync(lambda: limited.get("/health").json()["checks"].get("quota") is True)
    assert limited.post("/products/B/o1", content=bytes(4_750)).status_code == 201
    assert eventually_sync(lambda: "quota" in health(limited))
    assert health(limited)["quota"] == "product_quotas: B: 95 % of 5.00 kB is used"
    assert limited.get("/health").json()["status"] == "degraded"


def test_what_the_disk_is_to_keep_free_is_kept(
    make_settings: MakeSettings, store_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")  # noqa: PYI024  as `shutil` has it
    free = [10_000_000]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - free[0], free[0]))
    settings = make_settings(keep_free_bytes=9_000_000)
    with serving(open_sdb, settings) as url, httpx.Client(base_url=url, timeout=30) as http:
        assert send_body(http, bytes(900_000)).status_code == 201
        told = detail(send_body(http, bytes(1_100_000)))
        assert told == (
            "store: keep_free_bytes: 9000000 bytes are to be kept free, 10000000 are, and 1100000 "
            "are still to be received; nothing was recorded"
        )
        assert len(kept(store_folder)) == 1
        assert "keep_free_bytes: 100 % of 991 MB is used" in health(http).get("quota", "") or (
            eventually_sync(lambda: "quota" in health(http))
        )
        free[0] = 8_999_999
        assert detail(send_body(http, b"x"))
        assert metric(http, "batuta_sdb_disk_free_bytes") == free[0]


def test_usage_is_that_of_the_records_whatever_is_done_to_them(
    database_url: str,
) -> None:
    row = {"product": "A", "obs_id": "o1", "version": 1, "media_type": "a/b"}
    with open_database(database_url, MIGRATIONS) as engine, engine.begin() as connection:
        about = {"metadata": {}, "inputs": [], "created": sa.func.now(), "sha256": "0" * 64}
        for version in (1, 2):
            values = {**row, **about, "version": version, "size": 10 * version}
            connection.execute(sa.insert(PRODUCTS).values(values))
        connection.execute(sa.insert(QUICKLOOKS).values({**row, "problem": "none"}))
        assert total_bytes(connection) == 30
        connection.execute(sa.update(QUICKLOOKS).values(size=5))
        connection.execute(sa.update(PRODUCTS).where(PRODUCTS.c.version == 2).values(product="B"))
        rows = connection.execute(sa.select(USAGE).order_by(USAGE.c.product)).all()
        assert [tuple(each) for each in rows] == [("A", 15), ("B", 20)]
        connection.execute(sa.delete(PRODUCTS).where(PRODUCTS.c.product == "A"))
        connection.execute(sa.delete(QUICKLOOKS))
        assert total_bytes(connection) == 20
        assert wrong_usage(connection) == []


def test_a_check_finds_a_wrong_usage_and_corrects_it(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    assert archive.check() == 0
    archive.execute(sa.update(USAGE).where(USAGE.c.product == "SMALL").values(bytes=7))
    capsys.readouterr()
    assert archive.check() == 1
    assert "usage SMALL: usage: 7 bytes are counted for its quota, and its records have 5" in (
        capsys.readouterr().out
    )
    assert archive.check("--collect") == 0
    assert archive.check() == 0


def test_a_picture_counts(limited: httpx.Client) -> None:
    large = picture(large=True)
    assert send_form(limited, b"x", quicklook=large).status_code == 201
    assert metric(limited, "batuta_sdb_stored_bytes") == len(large) + 1


def test_quotas_are_options_and_wrong_ones_are_named(tmp_path: Path) -> None:
    given = {"product_quotas": ["A=10", "B=20"], "quota_bytes": 5}
    assert read_settings(SdbSettings, given).product_quotas == {"A": 10, "B": 20}
    file = tmp_path / "sdb.yaml"
    file.write_text(json.dumps({"product_quotas": {"A": 0, "../B": 3}}))
    with pytest.raises(ConfigurationError, match=r"A: 0 \(accepted: a number of bytes from 1 on\)"):
        read_settings(SdbSettings, {}, file)
    with pytest.raises(ConfigurationError, match="not PRODUCT=BYTES"):
        read_settings(SdbSettings, {"product_quotas": ["A"]})
    assert run(["sdb", "--product-quota", "A", "--port", "0"]) == 2
