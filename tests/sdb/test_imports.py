"""Imports over REST: versions, idempotence, refusals that leave nothing behind."""

import gzip
import hashlib
import json
import logging
import os
import socket
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import sqlalchemy as sa

from batuta.sdb import InputRef, SdbClient
from batuta.sdb.service import open_sdb
from batuta.sdb.tables import PRODUCTS
from tests.sdb.conftest import MakeSettings
from tests.support.databases import new_postgresql_database
from tests.support.services import ServiceProcess, serving
from tests.support.waiting import eventually_sync

MIB = 2**20


def multipart(*parts: tuple[str, str | bytes], boundary: str = "tuba") -> httpx.Request:
    """A form with its parts in the order given; the part ``file`` has a name and a type."""
    body = b""
    for name, value in parts:
        extra = '; filename="a.fits"\r\nContent-Type: application/fits' if name == "file" else ""
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{extra}'.encode()
        body += b"\r\n\r\n" + (value.encode() if isinstance(value, str) else value) + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return httpx.Request("POST", "http://localhost/products", content=body, headers=headers)


def kind_of(form: httpx.Request) -> dict[str, str]:
    return {"Content-Type": form.headers["Content-Type"]}


def post(http: httpx.Client, *parts: tuple[str, str | bytes]) -> httpx.Response:
    form = multipart(*parts)
    return http.post("/products", content=form.content, headers=form.headers)


def stored_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def kept(folder: Path) -> list[bytes]:
    """All bytes that are kept: in the store, and in the SQLite database beside it."""
    with closing(sqlite3.connect(folder.parent / "sdb.db")) as database:
        small = [row[0] for row in database.execute("SELECT content FROM contents")]
    return [path.read_bytes() for path in stored_files(folder)] + small


def metric(http: httpx.Client, name: str) -> float:
    lines = http.get("/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


NAMED: tuple[tuple[str, str], ...] = (("product", "QPO_ECL"), ("obs_id", "sb1"))


def test_each_import_is_a_new_version(sdb_on_each: str, make_file: Callable[[bytes], Path]) -> None:
    with SdbClient(sdb_on_each) as client:
        versions = [
            client.import_file(make_file(content), "QPO_ECL", "sb1").version
            for content in (b"one", b"two", b"one")
        ]
        other = client.import_file(make_file(b"one"), "QPO_ECL", "sb2").version
    assert versions == [1, 2, 3]
    assert other == 1


def test_a_record_holds_all_that_the_import_said(
    sdb_on_each: str, make_file: Callable[[bytes, str], Path]
) -> None:
    path = make_file(b"light", "curve é.csv")
    with SdbClient(sdb_on_each) as client:
        stored = client.import_file(
            path,
            "LC",
            "sb1",
            metadata={"bins": [1, 2.5], "sky": {"ra_deg": 10.7, "name": "M 82 — 🔭"}},
            media_type="text/csv",
            processing_id="run-7",
            provider="lc_pipeline",
            inputs=[InputRef(product="EVT", version=3)],
            code="lc 1.2.0",
            graph_version="9f2c",
        )
        assert client.get("LC", "sb1") == stored
    assert stored.sha256 == hashlib.sha256(b"light").hexdigest()
    assert stored.size == 5
    assert stored.filename == "curve é.csv"
    assert stored.media_type == "text/csv"
    assert stored.metadata == {"bins": [1, 2.5], "sky": {"ra_deg": 10.7, "name": "M 82 — 🔭"}}
    assert (stored.processing_id, stored.provider) == ("run-7", "lc_pipeline")
    assert stored.inputs == (InputRef(product="EVT", version=3),)
    assert (stored.code, stored.graph_version) == ("lc 1.2.0", "9f2c")
    assert stored.created.tzinfo is not None
    assert httpx.get(stored.uri).content == b"light"


def test_fields_may_follow_the_file(http: httpx.Client) -> None:
    answer = post(http, ("file", b"abc"), ("metadata", '{"a": 1}'), *NAMED)
    assert answer.status_code == 201
    assert answer.json()["metadata"] == {"a": 1}
    assert answer.json()["media_type"] == "application/fits"
    assert http.get(answer.headers["location"]).json() == answer.json()


def test_an_empty_file_is_a_product_too(client: SdbClient, make_file: Any, tmp_path: Path) -> None:
    stored = client.import_file(make_file(b""), "EMPTY", "sb1")
    client.export("EMPTY", "sb1", to=tmp_path / "out")
    assert stored.size == 0
    assert (tmp_path / "out").read_bytes() == b""


def test_a_processing_imports_its_product_once(sdb_on_each: str) -> None:
    with httpx.Client(base_url=sdb_on_each) as http:
        first = post(http, *NAMED, ("processing_id", "p1"), ("file", b"first"))
        again = post(http, *NAMED, ("processing_id", "p1"), ("file", b"not the same"))
        other_product = post(
            http, ("product", "LC"), ("obs_id", "sb1"), ("processing_id", "p1"), ("file", b"x")
        )
        listed = http.get("/products").json()["items"]
    assert [first.status_code, again.status_code, other_product.status_code] == [201, 200, 201]
    assert again.json() == first.json()
    assert listed == [first.json(), other_product.json()]


def test_a_processing_cannot_import_for_two_observations(http: httpx.Client) -> None:
    post(http, *NAMED, ("processing_id", "p1"), ("file", b"x"))
    answer = post(
        http, ("product", "QPO_ECL"), ("obs_id", "sb2"), ("processing_id", "p1"), ("file", b"x")
    )
    assert answer.status_code == 409
    assert "'p1' has imported QPO_ECL for obs_id 'sb1' already" in answer.json()["detail"]


@pytest.mark.parametrize(("first", "second"), [(None, "lc"), ("lc", None), ("lc", "other")])
def test_a_processing_cannot_import_for_two_providers(
    http: httpx.Client, first: str | None, second: str | None, store_folder: Path
) -> None:
    def named(provider: str | None, content: bytes) -> httpx.Response:
        said = (("provider", provider),) if provider else ()
        return post(http, *NAMED, ("processing_id", "p1"), *said, ("file", content))

    assert named(first, b"first").status_code == 201
    answer = named(second, b"second")
    assert answer.status_code == 409
    assert (
        f"has imported QPO_ECL for provider {first!r} already, not for {second!r}"
        in (answer.json()["detail"])
    )
    assert kept(store_folder) == [b"first"]


def test_all_attempts_at_a_processing_import_its_product_once(http: httpx.Client) -> None:
    """A pipeline that counts no attempts is sent an id for each, and passes that one on."""
    claim = "653d5b44-fcc1-5427-8d6d-9a643bab5735"

    def imported_as(processing_id: str, content: bytes) -> httpx.Response:
        return post(http, *NAMED, ("processing_id", processing_id), ("file", content))

    assert imported_as(f"{claim}.2", b"second").status_code == 201
    assert imported_as(claim, b"first, late").status_code == 200
    assert imported_as(f"{claim}.3", b"third").json()["processing_id"] == claim
    # Any other id is what it is.
    assert imported_as("run-7.2", b"another").json()["processing_id"] == "run-7.2"


def test_other_bytes_of_a_repeat_are_told_and_not_kept(
    client: SdbClient,
    http: httpx.Client,
    make_file: Callable[[bytes], Path],
    store_folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An attempt after a crash need not make the same bytes: it must not fail for that."""
    first = client.import_file(make_file(b"first"), "A", "o1", processing_id="p1")
    with caplog.at_level(logging.WARNING):
        again = client.import_file(make_file(b"first"), "A", "o1", processing_id="p1")
        assert caplog.messages == []
        other = client.import_file(make_file(b"second"), "A", "o1", processing_id="p1")
    digest = hashlib.sha256(b"second").hexdigest()
    assert first == again == other
    assert kept(store_folder) == [b"first"]
    assert metric(http, "batuta_sdb_repeated_imports_of_other_bytes_total") == 1
    told = [line for line in caplog.messages if digest in line and first.sha256 in line]
    assert len(told) == len(caplog.messages) == 2  # one of the sdb, one of its client


@pytest.mark.parametrize("around", [b"", b"\r\n", b"This is a form.\r\n", b"x" * 3000 + b"\r\n"])
@pytest.mark.parametrize("after", [b"", b"\r\n", b"\r\nIt ends here.", b"x" * 200_000])
@pytest.mark.parametrize("size", [3, 100_000])
def test_what_surrounds_a_form_is_ignored_and_its_file_is_whole(
    http: httpx.Client, around: bytes, after: bytes, size: int
) -> None:
    form, content = multipart(*NAMED, ("file", bytes(size))), bytes(size)
    answer = http.post("/products", content=around + form.content + after, headers=kind_of(form))
    assert answer.status_code == 201, answer.text
    assert answer.json()["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_compressed_request_is_refused(http: httpx.Client) -> None:
    form = multipart(*NAMED, ("file", b"x"))
    headers = {"Content-Type": form.headers["Content-Type"], "Content-Encoding": "gzip"}
    answer = http.post("/products", content=gzip.compress(form.content), headers=headers)
    assert answer.status_code == 415
    assert answer.json()["detail"].startswith("Content-Encoding: 'gzip' (accepted: none")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("a%22b.csv", 'a"b.csv'),
        ("a;b.csv", "a;b.csv"),
        ("/data/r.csv", "r.csv"),
        ("C:\\\\data\\\\r.csv", "r.csv"),
        ("C:\\data\\r.csv", "r.csv"),
        ("C:r.csv", None),
    ],
)
def test_a_file_has_its_own_name_or_is_refused(
    http: httpx.Client, sent: str, kept: str | None
) -> None:
    form = multipart(*NAMED, ("file", b"x"))
    body = form.content.replace(b"a.fits", sent.encode())
    answer = http.post("/products", content=body, headers=kind_of(form))
    if kept is None:
        assert answer.status_code == 422
        assert "is of a path (accepted: a name alone)" in answer.json()["detail"]
    else:
        assert answer.json()["filename"] == kept


def test_imports_at_once_get_different_versions(sdb_on_each: str) -> None:
    def one(number: int) -> int:
        with httpx.Client(base_url=sdb_on_each, timeout=60) as http:
            return int(post(http, *NAMED, ("file", str(number))).json()["version"])

    with ThreadPoolExecutor(12) as pool:
        versions = list(pool.map(one, range(36)))
    assert sorted(versions) == list(range(1, 37))


def test_two_services_share_one_database_and_folder(
    make_settings: MakeSettings, postgresql_server: str
) -> None:
    settings = make_settings(database_url=new_postgresql_database(postgresql_server))
    with serving(open_sdb, settings) as one, serving(open_sdb, settings) as two:

        def send(number: int) -> int:
            with httpx.Client(base_url=(one, two)[number % 2], timeout=60) as http:
                parts = (("processing_id", f"p{number // 2}"), ("file", b"x"))
                return int(post(http, *NAMED, *parts).json()["version"])

        with ThreadPoolExecutor(8) as pool:
            versions = list(pool.map(send, range(40)))
    assert sorted(set(versions)) == list(range(1, 21))
    assert versions[0::2] == versions[1::2]


def test_a_wrong_digest_is_refused_and_leaves_nothing(
    http: httpx.Client, store_folder: Path
) -> None:
    declared, actual = "0" * 64, hashlib.sha256(b"abc").hexdigest()
    answer = post(http, *NAMED, ("file", b"abc"), ("sha256", declared))
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert declared in answer.json()["detail"]
    assert actual in answer.json()["detail"]
    assert http.get("/products").json()["items"] == []
    assert kept(store_folder) == []


def test_a_digest_is_right_in_either_case(http: httpx.Client) -> None:
    digest = hashlib.sha256(b"abc").hexdigest().upper()
    assert post(http, *NAMED, ("sha256", digest), ("file", b"abc")).status_code == 201


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((("file", b"x"),), ["product: missing", "obs_id: missing"]),
        (NAMED, ["file: missing"]),
        (
            (("product", "../etc"), ("obs_id", "a b"), ("file", b"x")),
            ["product: '../etc' is not a name", "obs_id: 'a b' is not a name"],
        ),
        ((*NAMED, ("color", "red"), ("file", b"x")), ["color: unknown field (accepted: product"]),
        ((*NAMED, ("product", "B"), ("file", b"x")), ["product: given twice"]),
        ((*NAMED, ("file", b"x"), ("file", b"y")), ["file: given twice"]),
        ((*NAMED, ("metadata", "[1]"), ("file", b"x")), ["metadata: '[1]' (accepted: a JSON obj"]),
        ((*NAMED, ("metadata", "null"), ("file", b"x")), ["metadata: 'null' (accepted: a JSON"]),
        ((*NAMED, ("metadata", "{"), ("file", b"x")), ["metadata: not JSON"]),
        ((*NAMED, ("metadata", '{"a": NaN}'), ("file", b"x")), ["NaN is not a JSON number"]),
        (
            (*NAMED, ("metadata", '{"a": 1, "a": 2}'), ("file", b"x")),
            ["the key 'a' is given twice"],
        ),
        ((*NAMED, ("metadata", '{"a":' + "[" * 9000), ("file", b"x")), ["too deeply nested"]),
        ((*NAMED, ("metadata", b"\xff"), ("file", b"x")), ["metadata: b'\\xff' is not UTF-8"]),
        ((*NAMED, ("sha256", "12"), ("file", b"x")), ["sha256: '12' (accepted: 64 hexadecimal"]),
        ((*NAMED, ("processing_id", ""), ("file", b"x")), ["processing_id: '' (accepted: 1 to"]),
        ((*NAMED, ("provider", "a/b"), ("file", b"x")), ["provider: 'a/b' is not a name"]),
        ((*NAMED, ("code", ""), ("file", b"x")), ["code: '' (accepted: 1 to 200 printable ASCII"]),
        ((*NAMED, ("graph_version", "é"), ("file", b"x")), ["graph_version: 'é' (accepted: 1 to"]),
        ((*NAMED, ("inputs", "x"), ("file", b"x")), ["inputs: Invalid JSON"]),
        (
            (*NAMED, ("inputs", '[{"product": "A", "version": 0}]'), ("file", b"x")),
            ["inputs.0.version: Input should be greater than or equal to 1"],
        ),
        ((*NAMED, ("inputs", '[{"product": "A"}]'), ("file", b"x")), ["inputs.0.version"]),
    ],
)
def test_a_wrong_form_is_refused_in_one_line_naming_every_mistake(
    http: httpx.Client,
    store_folder: Path,
    parts: tuple[tuple[str, str | bytes], ...],
    said: list[str],
) -> None:
    answer = post(http, *parts)
    detail = answer.json()["detail"]
    assert answer.status_code == 422
    assert "\n" not in detail
    assert [line for line in said if line not in detail] == [], detail
    assert http.get("/products").json()["items"] == []
    assert kept(store_folder) == []
    assert metric(http, 'batuta_sdb_refused_uploads_total{status="422"}') == 1


def test_a_body_that_is_not_a_form_is_refused(http: httpx.Client) -> None:
    answer = http.post("/products", json={"product": "A"})
    assert answer.status_code == 415
    assert "multipart/form-data" in answer.json()["detail"]


def test_a_form_without_its_closing_boundary_is_refused(
    http: httpx.Client, store_folder: Path
) -> None:
    form = multipart(*NAMED, ("file", b"x" * 5000), ("sha256", "0" * 64))
    cut = form.content[: form.content.index(b'name="sha256"') - 50]
    answer = http.post(
        "/products", content=cut, headers={"Content-Type": form.headers["Content-Type"]}
    )
    assert answer.status_code == 422
    assert "ends before the closing boundary" in answer.json()["detail"]
    assert kept(store_folder) == []


def test_a_refusal_reaches_a_client_that_is_still_sending(http: httpx.Client) -> None:
    answer = post(http, ("color", "red"), ("file", bytes(20 * MIB)))
    assert answer.status_code == 422
    assert "color: unknown field" in answer.json()["detail"]


@pytest.mark.parametrize("announced", [True, False])
def test_a_file_over_the_limit_is_refused(
    make_settings: MakeSettings, store_folder: Path, announced: bool
) -> None:
    form = multipart(*NAMED, ("file", bytes(4 * MIB)))
    body = form.content if announced else iter([form.content])
    with (
        serving(open_sdb, make_settings(max_upload_bytes=MIB)) as url,
        httpx.Client(base_url=url) as http,
    ):
        kind = {"Content-Type": form.headers["Content-Type"]}
        answer = http.post("/products", content=body, headers=kind)
        assert answer.status_code == 413
        assert f"larger than {MIB} bytes" in answer.json()["detail"]
        assert http.get("/products").json()["items"] == []
    assert kept(store_folder) == []


def test_fields_too_long_are_refused(http: httpx.Client) -> None:
    answer = post(http, *NAMED, ("metadata", json.dumps({"a": "x" * 3 * MIB})), ("file", b"x"))
    assert answer.status_code == 413
    assert "all fields but file and quicklook together" in answer.json()["detail"]


@pytest.mark.parametrize("token", [None, "a-token-of-a-test"])
def test_an_import_cut_half_way_leaves_one_line_in_the_log_and_nothing_else(
    make_settings: MakeSettings,
    store_folder: Path,
    caplog: pytest.LogCaptureFixture,
    token: str | None,
) -> None:
    shown = {"Authorization": f"Bearer {token}"} if token else {}
    with (
        caplog.at_level(logging.WARNING),
        serving(open_sdb, make_settings(token=token)) as url,
        httpx.Client(base_url=url, headers=shown) as http,
    ):
        send_half(url, shown, multipart(*NAMED, ("file", bytes(8 * MIB))))
        eventually_sync(lambda: metric(http, "batuta_sdb_cut_uploads_total") == 1)
        assert http.get("/products").json()["items"] == []
        assert stored_files(store_folder) == []
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in warnings] == [
        "a client disconnected during its import: nothing was recorded"
    ]


def send_half(url: str, shown: dict[str, str], form: httpx.Request) -> None:
    address = urlsplit(url)
    lines = [
        "POST /products HTTP/1.1",
        f"Host: {address.netloc}",
        f"Content-Type: {form.headers['Content-Type']}",
        f"Content-Length: {len(form.content)}",
        *(f"{name}: {value}" for name, value in shown.items()),
    ]
    with socket.create_connection((address.hostname, address.port)) as sock:
        sock.sendall("\r\n".join([*lines, "", ""]).encode())
        sock.sendall(form.content[: len(form.content) // 2])


def test_a_large_file_is_never_whole_in_memory(make_settings: MakeSettings, tmp_path: Path) -> None:
    small, large = tmp_path / "small.bin", tmp_path / "large.bin"
    small.write_bytes(bytes(2 * MIB))
    with large.open("wb") as file:
        file.truncate(300 * MIB)
    service = ServiceProcess("batuta.sdb:run", make_settings())
    with SdbClient(service.start(), retry_for_s=5) as client, ThreadPoolExecutor(1) as pool:
        assert service.process is not None
        memory = psutil.Process(service.process.pid).memory_info
        client.import_file(small, "SMALL", "sb0")
        client.export("SMALL", "sb0", to=tmp_path / "out.bin")
        before = peak = memory().rss
        importing = pool.submit(client.import_file, large, "LARGE", "sb1")
        while not wait([importing], timeout=0.02).done:
            peak = max(peak, memory().rss)
        importing.result()
        exporting = pool.submit(client.export, "LARGE", "sb1", to=tmp_path / "out.bin")
        while not wait([exporting], timeout=0.02).done:
            peak = max(peak, memory().rss)
        exporting.result()
    service.kill()
    assert (tmp_path / "out.bin").stat().st_size == 300 * MIB
    assert peak - before < 40 * MIB


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        (
            "metadata",
            json.dumps({"from": os.fsdecode(b"caf\xe9.csv")}),
            "metadata.from: contains a",
        ),
        ("metadata", '{"a": "\\u0000"}', "metadata.a: contains NUL"),
        ("metadata", '{"\\ud800": 1}', "metadata: key '\\ud800' contains a lone surrogate"),
        ("metadata", '{"a": 1e400}', "metadata.a: inf is not a JSON number"),
        ("metadata", '{"a": 9223372036854775808}', "metadata.a: larger than 64 bits"),
        ("metadata", '{"a": ' + "[" * 260 + "]" * 260 + "}", "metadata: nested deeper than"),
        ("metadata", '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "metadata: too deeply nested"),
        ("metadata", '{"a": ' + "9" * 5000 + "}", "metadata: not JSON"),
        ("inputs", '[{"product": "A", "version": 2147483648}]', "inputs.0.version: "),
        ("inputs", json.dumps([{"product": "A", "version": 1}] * 27_000), "inputs: "),
    ],
)
def test_what_cannot_be_given_back_is_refused_and_the_lists_go_on(
    sdb_on_each: str, field: str, value: str, said: str
) -> None:
    with httpx.Client(base_url=sdb_on_each, timeout=30) as http:
        assert post(http, *NAMED, ("file", b"before")).status_code == 201
        answer = post(http, *NAMED, (field, value), ("file", b"x"))
        assert answer.status_code == 422
        assert said in answer.json()["detail"].encode("utf-8", "backslashreplace").decode()
        assert [item["version"] for item in http.get("/products").json()["items"]] == [1]


def test_a_record_that_cannot_be_given_back_as_it_is_does_not_break_a_list(
    make_settings: MakeSettings, database_url: str
) -> None:
    """As an earlier version may have recorded it."""
    with (
        serving(open_sdb, make_settings(database_url=database_url)) as url,
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        assert post(http, *NAMED, ("file", b"x")).status_code == 201
        driver = "sqlite" if database_url.startswith("sqlite") else "postgresql+psycopg"
        engine = sa.create_engine(sa.make_url(database_url).set(drivername=driver))
        with engine.begin() as connection:
            deep = json.loads("[" * 260 + "]" * 260)
            metadata = {"from": os.fsdecode(b"caf\xe9.csv"), "deep": deep}
            connection.execute(sa.update(PRODUCTS).values(metadata=metadata))
        engine.dispose()
        (item,) = http.get("/products").json()["items"]
        assert item["metadata"]["from"] == "caf\\udce9.csv"
        assert http.get("/products/QPO_ECL/sb1").status_code == 200
