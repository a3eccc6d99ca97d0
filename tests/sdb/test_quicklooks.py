"""Quicklooks: given with a product or drawn once, whatever happens, on each database and store."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from batuta.cli.app import run
from batuta.quicklook import Drawer, Kind
from batuta.sdb import SdbClient
from batuta.sdb.service import open_sdb
from batuta.service.client import ServiceError
from tests.sdb.archives import picture
from tests.sdb.conftest import MakeSettings
from tests.sdb.test_imports import NAMED, kept, metric, post, stored_files
from tests.support.buckets import Bucket, open_bucket
from tests.support.services import ServiceProcess, serving
from tests.support.waiting import eventually_sync

TABLE = b"time,rate\n" + b"".join(b"%d,%d\n" % (n, n * n % 17) for n in range(300))
LASTING = "private, max-age=31536000, immutable"


@pytest.fixture(params=["folder", "bucket"])
def store(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[dict[str, Any]]:
    """Settings of each store."""
    if request.param == "folder":
        yield {}
        return
    with open_bucket() as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        yield {"store_url": "s3://b", "scratch_folder": tmp_path / "scratch"}


@pytest.fixture
def everywhere(
    make_settings: MakeSettings, database_url: str, store: dict[str, Any]
) -> Iterator[SdbClient]:
    """An sdb on each database and each store, that keeps nearly all in the store."""
    settings = make_settings(database_url=database_url, small_file_bytes=1000, **store)
    with serving(open_sdb, settings) as url, SdbClient(url, retry_for_s=10) as client:
        yield client


@pytest.fixture
def table(make_file: Callable[[bytes, str], Path]) -> Path:
    return make_file(TABLE, "curve.csv")


def asked(client: SdbClient, path: str) -> httpx.Response:
    return httpx.get(f"{client.url}/products/{path}/quicklook", timeout=60)


def quicklook(client: SdbClient, path: str) -> httpx.Response:
    """Ask until it is drawn, or has failed."""

    def answer() -> httpx.Response | None:
        given = asked(client, path)
        return None if given.status_code == 202 else given

    found = eventually_sync(answer, 60)
    assert found is not None
    return found


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_one_that_is_given_is_shown_as_it_is(
    everywhere: SdbClient, table: Path, tmp_path: Path, kind: str, *, large: bool
) -> None:
    given = tmp_path / "given"
    given.write_bytes(picture(kind, large=large))
    stored = everywhere.import_file(table, "LC", "o1", quicklook=given, metadata={"a": 1})
    assert (stored.filename, stored.metadata) == ("curve.csv", {"a": 1})
    state = everywhere.quicklook("LC", "o1", to=tmp_path / "back")
    assert (state.state, state.origin) == ("ready", "given")
    assert state.media_type == f"image/{kind.lower()}"
    assert (tmp_path / "back").read_bytes() == given.read_bytes()
    everywhere.export("LC", "o1", to=tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == TABLE


def test_one_that_is_missing_is_drawn_when_it_is_asked_for(
    everywhere: SdbClient, table: Path, tmp_path: Path
) -> None:
    everywhere.import_file(table, "LC", "o1")
    state = everywhere.quicklook("LC", "o1", to=tmp_path / "drawn.png")
    assert (state.state, state.origin, state.media_type) == ("ready", "drawn", "image/png")
    with Image.open(tmp_path / "drawn.png") as drawn:
        assert drawn.size[0] == 720
    answer = quicklook(everywhere, "LC/o1/versions/1")
    assert answer.content == (tmp_path / "drawn.png").read_bytes()
    assert answer.headers["cache-control"] == LASTING
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].endswith("sandbox")
    assert quicklook(everywhere, "LC/o1").headers["cache-control"] == "private, no-cache"
    etag = {"If-None-Match": answer.headers["etag"]}
    again = httpx.get(f"{everywhere.url}/products/LC/o1/quicklook", headers=etag)
    assert (again.status_code, again.content) == (304, b"")


def test_a_file_that_cannot_be_drawn_says_why_and_is_not_tried_again(
    everywhere: SdbClient, make_file: Callable[[bytes, str], Path]
) -> None:
    everywhere.import_file(make_file(picture()[:60], "cut.png"), "IMAGE", "o1")
    with httpx.Client(base_url=everywhere.url) as http:
        for _ in range(2):
            answer = quicklook(everywhere, "IMAGE/o1")
            assert answer.status_code == 404
            assert "version 1, has no quicklook: it cannot be read:" in answer.json()["detail"]
            assert metric(http, "batuta_sdb_failed_quicklooks_total") == 1


def test_why_a_file_cannot_be_drawn_is_kept_whatever_it_quotes(
    make_settings: MakeSettings, database_url: str, tmp_path: Path
) -> None:
    column = "geo\0m"
    table = pa.table({column: pa.array([b"no point"])})
    described = {b"geo": json.dumps({"primary_column": column}).encode()}
    pq.write_table(table.replace_schema_metadata(described), tmp_path / "a.parquet")
    settings = make_settings(database_url=database_url)
    with serving(open_sdb, settings) as url, SdbClient(url) as client:
        client.import_file(tmp_path / "a.parquet", "POINTS", "o1")
        given = quicklook(client, "POINTS/o1")
        assert given.status_code == 404
        assert r"its geometries in geo\x00m are not all points" in given.json()["detail"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("notes.txt", b"text", "notes.txt of type text/plain is not drawn (drawn: GeoTIFF, LAS"),
        ("page.csv", b"a\0b", "it is called CSV, TSV or ECSV, and does not begin as one"),
        ("map.tif", picture(), "it is called GeoTIFF, and does not begin as one"),
        ("evil.svg", b"<svg/>", "evil.svg of type image/svg+xml is not drawn"),
    ],
)
def test_what_is_of_no_known_kind_is_not_drawn_and_says_what_is(
    http: httpx.Client,
    client: SdbClient,
    make_file: Callable[[bytes, str], Path],
    name: str,
    content: bytes,
    reason: str,
) -> None:
    client.import_file(make_file(content, name), "A", "o1")
    answer = http.get("/products/A/o1/quicklook")
    assert answer.status_code == 404
    assert reason in answer.json()["detail"]
    assert answer.headers["cache-control"] == "no-store"
    state = http.get("/products/A/o1/versions/1/quicklook/state").json()
    assert (state["state"], state["origin"]) == ("none", None)
    assert reason in state["reason"]


@pytest.mark.parametrize(
    ("given", "status", "problem"),
    [
        (b"<svg onload='alert(1)'/>", 422, "quicklook: it begins with b'<svg onload="),
        (b"<!doctype html>", 422, "accepted: a PNG, JPEG or WebP picture); nothing was recorded"),
        (b"", 422, "quicklook: it begins with b''"),
        (picture(size=(5000, 10)), 422, "quicklook: too large: 5000 x 10 pixels"),
        (picture()[:-20], 422, "quicklook: it is cut"),
        (picture("JPEG", large=True)[:-200], 422, "quicklook: it is cut"),
        (picture()[:10], 422, "quicklook: it cannot be read"),
        (picture() + b"x" * 2**21, 413, "quicklook: larger than 2097152 bytes"),
    ],
)
def test_one_that_cannot_be_used_is_refused_and_nothing_is_recorded(
    http: httpx.Client, store_folder: Path, given: bytes, status: int, problem: str
) -> None:
    answer = post(http, *NAMED, ("file", TABLE), ("quicklook", given))
    assert answer.status_code == status
    assert problem in answer.json()["detail"]
    assert http.get("/products").json()["items"] == []
    assert kept(store_folder) == []


def test_a_repeated_import_keeps_the_first_one(
    client: SdbClient, table: Path, make_file: Callable[[bytes, str], Path], store_folder: Path
) -> None:
    first, second = picture(large=True), picture("WEBP")
    for content in (first, second, picture(large=True)):
        given = make_file(content, "given")
        client.import_file(table, "LC", "o1", processing_id="p1", quicklook=given)
    assert quicklook(client, "LC/o1").content == first
    assert sorted(kept(store_folder)) == sorted([first, TABLE])


def test_each_version_has_its_own_and_a_withdrawn_one_gives_none(
    client: SdbClient, table: Path, make_file: Callable[[bytes, str], Path]
) -> None:
    pictures = [picture(size=(10, 10)), picture(size=(20, 20))]
    for each in pictures:
        client.import_file(table, "LC", "o1", quicklook=make_file(each, "given"))
    assert quicklook(client, "LC/o1").content == pictures[1]
    client.withdraw("LC", "o1", 2, "bad data")
    assert quicklook(client, "LC/o1").content == pictures[0]
    gone = quicklook(client, "LC/o1/versions/2")
    assert (gone.status_code, "bad data" in gone.json()["detail"]) == (410, True)
    assert quicklook(client, "LC/o9").status_code == 404


def test_many_who_ask_at_once_make_it_once(
    http: httpx.Client, client: SdbClient, table: Path
) -> None:
    client.import_file(table, "LC", "o1")
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: asked(client, "LC/o1"), range(20)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    for answer in answers:
        assert answer.status_code == 200 or answer.headers["retry-after"] == "1"
    assert quicklook(client, "LC/o1").status_code == 200
    assert metric(http, "batuta_sdb_drawn_quicklooks_total") == 1


def drawing_process(service: psutil.Process) -> psutil.Process | None:
    for each in service.children(recursive=True):
        if "batuta.quicklook" in each.cmdline():
            return each
    return None


@pytest.fixture
def killable(make_settings: MakeSettings) -> Iterator[ServiceProcess]:
    service = ServiceProcess("batuta.sdb:run", make_settings())
    yield service
    service.kill()


def suspended(service: ServiceProcess, url: str, threads: ThreadPoolExecutor) -> psutil.Process:
    """Ask for a picture, and stop the process that draws it in the middle."""
    threads.submit(httpx.get, f"{url}/products/LC/o1/quicklook", timeout=60)
    assert service.process is not None
    parent = psutil.Process(service.process.pid)
    found: list[psutil.Process] = []

    def is_drawing() -> bool:
        found[:] = [each for each in [drawing_process(parent)] if each is not None]
        return bool(found)

    eventually_sync(is_drawing, 30)
    found[0].send_signal(signal.SIGSTOP)
    return found[0]


def test_an_sdb_that_is_killed_while_it_draws_leaves_no_process_and_draws_again(
    killable: ServiceProcess, table: Path, tmp_path: Path
) -> None:
    url = killable.start()
    with SdbClient(url) as client:
        client.import_file(table, "LC", "o1")
    with ThreadPoolExecutor(1) as threads:
        drawing = suspended(killable, url, threads)
        killable.kill()
        # Stopped while it started, it finds that its parent is gone; later, the kernel ends it.
        with suppress(psutil.NoSuchProcess):
            drawing.resume()
        drawing.wait(30)
    with SdbClient(killable.start()) as client:
        assert client.quicklook("LC", "o1", to=tmp_path / "q.png").origin == "drawn"


def test_nothing_is_fetched_to_be_drawn_before_its_turn(
    make_settings: MakeSettings, table: Path, store_folder: Path
) -> None:
    settings = make_settings(quicklook_processes=1, small_file_bytes=2**16)
    service = ServiceProcess("batuta.sdb:run", settings)
    url = service.start()
    observations = ["o1", "o2", "o3", "o4"]
    try:
        with SdbClient(url) as client:
            for obs_id in observations:
                client.import_file(table, "LC", obs_id)
        with ThreadPoolExecutor(4) as threads:
            drawing = suspended(service, url, threads)
            asked = [f"{url}/products/LC/{obs_id}/quicklook" for obs_id in observations]
            answers = [*threads.map(lambda each: httpx.get(each, timeout=60), asked)]
            assert {answer.status_code for answer in answers} == {202}
            # A copy of the one that is drawn, out of the database.
            assert len([*(store_folder / "incoming").iterdir()]) == 1
            drawing.send_signal(signal.SIGCONT)
        with SdbClient(url) as client:
            for obs_id in observations:
                client.quicklook("LC", obs_id, to=store_folder.parent / "q.png")
    finally:
        service.kill()


def test_an_sdb_that_is_stopped_while_it_draws_ends_the_process(
    killable: ServiceProcess, table: Path
) -> None:
    url = killable.start()
    with SdbClient(url) as client:
        client.import_file(table, "LC", "o1")
    with ThreadPoolExecutor(1) as threads:
        drawing = suspended(killable, url, threads)
        assert killable.stop() == 0
        assert not drawing.is_running()


def test_a_drawing_that_is_killed_by_the_system_is_tried_again_later(
    killable: ServiceProcess, table: Path, tmp_path: Path
) -> None:
    url = killable.start()
    with SdbClient(url) as client, ThreadPoolExecutor(1) as threads:
        client.import_file(table, "LC", "o1")
        suspended(killable, url, threads).kill()
        for _ in range(2):  # not at once
            detail = quicklook(client, "LC/o1").json()["detail"]
            assert "its drawing was ended by SIGKILL" in detail
    killable.kill()
    with SdbClient(killable.start()) as client:
        assert client.quicklook("LC", "o1", to=tmp_path / "q.png").origin == "drawn"


def test_a_drawing_that_took_too_long_is_tried_again_after_a_time(
    client: SdbClient, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.import_file(table, "LC", "o1")
    with monkeypatch.context() as loaded:
        _slow_down(loaded)
        assert "took more than 0.01 s" in quicklook(client, "LC/o1").json()["detail"]
    assert quicklook(client, "LC/o1").status_code == 404
    monkeypatch.setattr("batuta.sdb.quicklooks.TRY_AGAIN_AFTER_S", 0.0)
    assert quicklook(client, "LC/o1").status_code == 200


def _slow_down(patched: pytest.MonkeyPatch) -> None:
    """Give each drawing less time than it takes."""
    draw = Drawer.draw

    async def slowly(_self: Drawer, kind: Kind, path: Path) -> bytes:
        return await draw(Drawer(max_time_s=0.01), kind, path)

    patched.setattr(Drawer, "draw", slowly)


def test_what_failed_is_tried_again_by_another_version_of_what_draws(
    client: SdbClient, make_file: Callable[[bytes, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    client.import_file(make_file(picture()[:60], "cut.png"), "IMAGE", "o1")
    assert quicklook(client, "IMAGE/o1").status_code == 404
    monkeypatch.setattr("batuta.sdb.quicklooks.DRAWER", "another")
    with httpx.Client(base_url=client.url) as http:
        assert quicklook(client, "IMAGE/o1").status_code == 404
        assert metric(http, "batuta_sdb_failed_quicklooks_total") == 2


def test_a_store_that_cannot_be_read_is_no_failure_of_the_file(
    make_settings: MakeSettings, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_bucket() as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        settings = make_settings(
            store_url="s3://b", scratch_folder=tmp_path / "scratch", small_file_bytes=0
        )
        with serving(open_sdb, settings) as url, SdbClient(url, retry_for_s=10) as client:
            client.import_file(table, "LC", "o1")
            _refuse(bucket)
            assert quicklook(client, "LC/o1").status_code == 503
            bucket.failing = None
            assert client.quicklook("LC", "o1", to=tmp_path / "q.png").origin == "drawn"
        assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("cut", [False, True])
def test_damaged_bytes_are_no_failure_of_the_file(
    make_settings: MakeSettings, store_folder: Path, tmp_path: Path, *, cut: bool
) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(picture(large=True))
    with serving(open_sdb, make_settings(small_file_bytes=0)) as url, SdbClient(url) as client:
        client.import_file(file, "IMAGE", "o1")
        (stored,) = stored_files(store_folder)
        content = stored.read_bytes()
        half = content[: len(content) // 2]
        stored.write_bytes(half if cut else half.ljust(len(content), b"\0"))
        given = quicklook(client, "IMAGE/o1")
        assert given.status_code == 500
        assert ("shorter than was stored" if cut else "damaged") in given.json()["detail"]
        stored.write_bytes(content)
        assert quicklook(client, "IMAGE/o1").status_code == 200


def _refuse(bucket: Bucket) -> None:
    bucket.failing = httpx.codes.FORBIDDEN  # type: ignore[assignment]  # an IntEnum of the same


def test_none_is_drawn_where_no_process_may_draw(make_settings: MakeSettings, table: Path) -> None:
    settings = make_settings(quicklook_processes=0)
    with serving(open_sdb, settings) as url, SdbClient(url) as client:
        client.import_file(table, "LC", "o1")
        assert "quicklook_processes is 0" in quicklook(client, "LC/o1").json()["detail"]


def test_the_commands_import_and_export_one(
    sdb_url: str,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("given.jpg").write_bytes(picture("JPEG"))
    at = ["--sdb-url", sdb_url]
    named = ["--product", "LC", "--obs-id", "o1", "--conductor-url", "http://127.0.0.1:1"]
    assert run(["import", str(table), *named, "--quicklook", "given.jpg", *at]) == 0
    assert run(["export", "LC", "o1", "--quicklook", *at]) == 0
    assert "its quicklook exported to LC-o1-v1-quicklook.jpg" in capsys.readouterr().out
    assert Path("LC-o1-v1-quicklook.jpg").read_bytes() == Path("given.jpg").read_bytes()
    assert run(["export", "LC", "o1", "--quicklook", "-o", "q", *at]) == 0
    assert Path("q").read_bytes() == Path("given.jpg").read_bytes()
    assert run(["import", str(table), *named, "--quicklook", "none.png", *at]) == 2
    assert "--quicklook none.png: not a file" in capsys.readouterr().err


def test_an_sdb_that_starts_loads_nothing_that_draws() -> None:
    heavy = "{'PIL', 'astropy', 'laspy', 'matplotlib', 'numpy', 'pyarrow', 'rasterio'}"
    program = f"import sys, batuta.sdb.service; print({heavy} & set(sys.modules) or 'nothing')"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "nothing"


def test_a_client_says_why_there_is_none(
    client: SdbClient, make_file: Callable[[bytes, str], Path], tmp_path: Path
) -> None:
    client.import_file(make_file(b"text", "notes.txt"), "A", "o1")
    with pytest.raises(ServiceError, match=r"notes\.txt of type text/plain is not drawn") as e:
        client.quicklook("A", "o1", to=tmp_path / "q.png")
    assert e.value.status == 404
    assert not (tmp_path / "q.png").exists()
