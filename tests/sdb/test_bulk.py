"""Many small files in one request: each has its answer, and none fails the others."""

import asyncio
import hashlib
import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.engine import make_url

from batuta.cli.app import run
from batuta.messaging import DataAvailable
from batuta.sdb import Imported, NewFile, SdbClient, SdbSettings
from batuta.sdb.catalogue import ImportResult
from batuta.sdb.recording import ImportRecorder
from batuta.sdb.retries import GivenUpError
from batuta.sdb.service import open_sdb
from batuta.service.client import ServiceError
from tests.sdb.archives import picture
from tests.sdb.conftest import MakeSettings
from tests.sdb.test_health import only_reading, run_sql, without_sessions
from tests.sdb.test_imports import kept, metric
from tests.sdb.test_outbox import announced
from tests.support.servers import NatsServer, free_port
from tests.support.services import ServiceProcess, serving
from tests.support.waiting import eventually_sync

KIB = 2**10
LINES = {"Content-Type": "application/x-ndjson"}
SIZES = (0, 1, 64 * KIB, 64 * KIB + 1, 1024 * KIB)
"""Up to 64 KiB in the database, more in the store."""


@pytest.fixture
def nats_of_sdb(own_nats: NatsServer) -> NatsServer:
    """What a test announces is all that there is."""
    return own_nats


@pytest.fixture
def bulk(settings: SdbSettings) -> Iterator[httpx.Client]:
    with serving(open_sdb, settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def line(content: bytes = b"x", **said: Any) -> bytes:
    fields = {"product": "A", "obs_id": "o1", "content": b64encode(content).decode(), **said}
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def send(http: httpx.Client, *lines: bytes) -> list[dict[str, Any]]:
    answer = http.post("/products/bulk", content=b"\n".join(lines), headers=LINES)
    assert (answer.status_code, answer.headers["content-type"]) == (200, LINES["Content-Type"])
    return [json.loads(each) for each in answer.text.splitlines()]


def test_each_file_has_its_record_its_bytes_and_its_announcement(
    bulk: httpx.Client, own_nats: NatsServer
) -> None:
    contents = {
        f"o{size}": bytes(range(256)) * (size // 256) + b"x" * (size % 256) for size in SIZES
    }
    said = {"filename": "a.csv", "media_type": "text/csv", "metadata": {"a": [1, {"b": None}]}}
    answers = send(
        bulk, *(line(content, obs_id=name, **said) for name, content in contents.items())
    )
    assert [each["status"] for each in answers] == [201] * len(SIZES)
    for (name, content), stored in zip(
        contents.items(), (each["stored"] for each in answers), strict=True
    ):
        assert (stored["obs_id"], stored["version"], stored["size"]) == (name, 1, len(content))
        assert stored["sha256"] == hashlib.sha256(content).hexdigest()
        assert (stored["filename"], stored["media_type"]) == ("a.csv", "text/csv")
        assert stored["metadata"] == said["metadata"]
        assert bulk.get(f"/products/A/{name}").json() == stored
        assert bulk.get(f"/products/A/{name}/data").content == content
    told = asyncio.run(announced(own_nats, len(SIZES)))
    events = [DataAvailable.model_validate(event.data) for event in told]
    assert {each.obs_id for each in events} == set(contents)


def test_a_bad_one_never_fails_the_others(bulk: httpx.Client) -> None:
    bad = [
        (b"{", 422, "line: not JSON"),
        (b"[]", 422, "line: b'[]' (accepted: a JSON object)"),
        (b"\xff", 422, "line: not JSON"),
        (b"[" * 100_000, 422, "line: too deeply nested"),
        (line(content=b"x")[:-1] + b', "product": "B"}', 422, "the key 'product' is given twice"),
        (line(color="red"), 422, "unknown: 'color'; known: product"),
        (line(product=None), 422, "product: missing"),
        (line(obs_id="../../etc/passwd"), 422, "obs_id: '../../etc/passwd' is not a name"),
        (line(product=7.5), 422, "product: '7.5' (accepted: a string)"),
        (line(filename=["a"]), 422, "filename: \"['a']\" (accepted: a string)"),
        (line(filename="\ud800"), 422, "filename"),
        (line(product="\ud800"), 422, "product"),
        (
            line(content=None) if False else b'{"product": "A", "obs_id": "o1"}',
            422,
            "content: 'None'",
        ),
        (b'{"product": "A", "obs_id": "o1", "content": "%%%"}', 422, "the file in Base64"),
        (line(sha256="0" * 64), 422, "its SHA-256 is"),
        (line(metadata=[1]), 422, "metadata: '[1]' (accepted: a JSON object)"),
        (line(bytes(1024 * KIB + 1)), 422, "1048577 bytes (accepted: at most 1048576"),
        (b"x" * (3 * 1024 * KIB), 413, "line: 3145728 bytes (accepted: at most"),
        (line(processing_id="p1", obs_id="o9"), 409, "has imported A for obs_id 'o1' already"),
    ]
    good = [line(str(number).encode()) for number in range(len(bad))]
    lines = [each for pair in zip(good, (given for given, *_ in bad), strict=True) for each in pair]
    answers = send(bulk, line(processing_id="p1"), *lines)
    assert answers[0]["status"] == 201
    assert [each["status"] for each in answers[1::2]] == [201] * len(good)
    for (given, status, said), answer in zip(bad, answers[2::2], strict=True):
        assert (answer["status"], said in answer["detail"]) == (status, True), (given[:80], answer)
        assert "\n" not in answer["detail"]
    assert len(bulk.get("/products?limit=1000").json()["items"]) == 1 + len(good)
    assert metric(bulk, 'batuta_sdb_refused_uploads_total{status="413"}') == 1


def test_what_repeats_an_import_is_told_its_version(bulk: httpx.Client) -> None:
    lines = [line(b"1"), line(b"1"), line(b"2"), line(b"1"), line(b"1", processing_id="p1")]
    told = [(each["status"], each["stored"]["version"]) for each in send(bulk, *lines, *lines)]
    assert told[:5] == [(201, 1), (200, 1), (201, 2), (201, 3), (201, 4)]
    # The newest that no processing names is version 3, of the same bytes as the first line.
    assert told[5:] == [(201, 5), (200, 5), (201, 6), (201, 7), (200, 4)]


@pytest.mark.parametrize("other", [{}, {"processing_id": "p1"}], ids=["of_nobody", "processing"])
@pytest.mark.parametrize("size", [1, 100 * KIB], ids=["in_database", "in_store"])
def test_a_line_repeats_what_is_the_newest_after_the_lines_before_it(
    bulk: httpx.Client, size: int, other: dict[str, str]
) -> None:
    first, second = b"1" * size, b"2" * size
    assert send(bulk, line(first))[0]["status"] == 201
    answers = send(bulk, line(second, **other), line(first))
    assert [(each["status"], each["stored"]["version"]) for each in answers] == [(201, 2), (201, 3)]
    assert bulk.get("/products/A/o1/data").content == first


def test_lines_are_recorded_in_their_order_whether_small_or_not(bulk: httpx.Client) -> None:
    lines = [line(str(number).encode() * size) for number, size in enumerate([100 * KIB, 1] * 4)]
    answers = send(bulk, *lines)
    assert [each["stored"]["version"] for each in answers] == list(range(1, 9))


def test_more_than_a_request_may_have_is_refused_line_by_line(bulk: httpx.Client) -> None:
    answers = send(bulk, *(line(obs_id=f"o{number}") for number in range(1003)), b"", b"")
    assert [each["status"] for each in answers] == [201] * 1000 + [413] * 3
    assert "more than 1000 files" in answers[-1]["detail"]
    content = bytes(900 * KIB)
    answers = send(bulk, *(line(content, obs_id=f"p{number}") for number in range(60)))
    statuses = [each["status"] for each in answers]
    assert set(statuses) == {201, 413}
    assert statuses == sorted(statuses)


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({"Content-Type": "application/json"}, 415, "accepted: application/x-ndjson"),
        ({**LINES, "Content-Encoding": "gzip"}, 415, "Content-Encoding: 'gzip'"),
    ],
)
def test_what_is_no_lines_is_refused(
    http: httpx.Client, headers: dict[str, str], status: int, said: str
) -> None:
    answer = http.post("/products/bulk", content=line(), headers=headers)
    assert (answer.status_code, said in answer.json()["detail"]) == (status, True)
    assert send(http) == []


def test_quotas_hold_for_each_line(make_settings: MakeSettings) -> None:
    settings = make_settings(quota_bytes=1000, product_quotas={"B": 10})
    with serving(open_sdb, settings) as url, httpx.Client(base_url=url) as bulk:
        lines = [line(bytes(300), obs_id=f"o{number}") for number in range(5)]
        answers = send(bulk, *lines, line(bytes(11), product="B"), line(b"x"))
        assert [each["status"] for each in answers] == [201, 201, 201, 507, 507, 507, 201]
        assert "product_quotas: B" in answers[5]["detail"]
        assert metric(bulk, "batuta_sdb_stored_bytes") == 901


def test_a_line_that_is_recorded_is_counted_once_for_others(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = ImportRecorder.record
    others: list[int] = []

    async def record_and_send(recorder: ImportRecorder, *given: Any) -> ImportResult:
        recorded = await record(recorder, *given)
        if recorded.stored.obs_id == "o1":
            # While the batch that it came with has not ended.
            others.append(await asyncio.to_thread(send_other))
        return recorded

    monkeypatch.setattr(ImportRecorder, "record", record_and_send)
    settings = make_settings(quota_bytes=500 * KIB)
    with serving(open_sdb, settings) as url, httpx.Client(base_url=url, timeout=60) as bulk:

        def send_other() -> int:
            content = b"2" * 200 * KIB
            return httpx.post(f"{url}/products/A/o2", content=content, timeout=60).status_code

        assert [each["status"] for each in send(bulk, line(bytes(200 * KIB)))] == [201]
    assert others == [201]


@contextmanager
def away(database_url: str) -> Iterator[None]:
    """Let nobody write to a database."""
    parsed = make_url(database_url)
    if parsed.get_backend_name() == "postgresql":
        server = parsed.set(database="postgres").render_as_string(hide_password=False)
        run_sql(server, only_reading(database_url, "on"), without_sessions(database_url))
        yield
        run_sql(server, only_reading(database_url, "off"), without_sessions(database_url))
    else:
        file = Path(parsed.database or "")
        moved = file.rename(file.with_name("moved.db"))
        yield
        moved.rename(file)


def test_each_line_tells_what_is_known_where_the_database_fails_in_the_middle(
    make_settings: MakeSettings, database_url: str
) -> None:
    lines = [line(str(number).encode(), obs_id=f"o{number}") for number in range(600)]
    with (
        serving(open_sdb, make_settings(database_url=database_url)) as url,
        httpx.Client(base_url=url, timeout=60) as bulk,
        httpx.Client(base_url=url) as other,
        ExitStack() as failing,
    ):

        def body() -> Iterator[bytes]:
            yield b"\n".join(lines[:250]) + b"\n"
            assert eventually_sync(lambda: metric(other, "batuta_sdb_imports_total") == 250)
            failing.enter_context(away(database_url))
            yield b"\n".join(lines[250:])

        answer = bulk.post("/products/bulk", content=body(), headers=LINES)
        assert answer.status_code == 200
        told = [json.loads(each) for each in answer.text.splitlines()]
        assert [each["status"] for each in told] == [201] * 250 + [503] * 350
        details = [each["detail"].partition("; ")[2] for each in told[250:]]
        unknown = "whether the file is recorded is not known: send it again"
        assert details == [unknown] * 250 + ["not tried: send it again"] * 100
        # Nothing is known of any: the request as a whole.
        # (A database that only reads would tell of those that it has.)
        whole = bulk.post("/products/bulk", content=b"\n".join(lines[250:]), headers=LINES)
        assert (whole.status_code, whole.headers["retry-after"]) == (503, "2")
        failing.close()

        def rest() -> list[int]:
            # Sessions that were ended may be found so in the middle of the next request, too.
            answer = bulk.post("/products/bulk", content=b"\n".join(lines[250:]), headers=LINES)
            return [json.loads(each)["status"] for each in answer.text.splitlines()]

        assert eventually_sync(lambda: set(rest()) <= {200, 201})
        again = send(bulk, *lines)
        assert {(each["status"], each["stored"]["version"]) for each in again} == {(200, 1)}


class _Failing:
    """Lets through the first lines of a request for bulk, as an sdb whose database then fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *passing: int) -> None:
        self.sent: list[int] = []
        self._passing = iter(passing)
        self._post = httpx.Client.post

        def post(http: httpx.Client, path: str, content: bytes, **given: Any) -> httpx.Response:
            return self.pass_some(http, path, content, **given)

        monkeypatch.setattr(httpx.Client, "post", post)

    def pass_some(
        self, http: httpx.Client, path: str, content: bytes, **given: Any
    ) -> httpx.Response:
        lines = content.splitlines(keepends=True)
        self.sent.append(len(lines))
        passing = next(self._passing)
        response = self._post(http, path, content=b"".join(lines[:passing]), **given)
        failed = b'{"status": 503, "detail": "database unavailable: away"}\n'
        text = response.content + failed * (len(lines) - passing)
        return httpx.Response(200, content=text, request=response.request)


def test_a_client_sends_again_what_could_not_be_recorded_and_nothing_else(
    client: SdbClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = _Failing(monkeypatch, 3, 0, 2)
    outcomes = list(client.import_files(write_files(tmp_path, 5)))
    assert failing.sent == [5, 2, 2]
    assert [
        (each.stored.obs_id, each.is_new) for each in outcomes if isinstance(each, Imported)
    ] == [(f"o{number}", True) for number in range(5)]


def test_a_client_that_gives_up_tells_what_was_recorded(
    sdb_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Failing(monkeypatch, 3)
    with SdbClient(sdb_url, retry_for_s=0) as client:
        outcomes = client.import_files(write_files(tmp_path, 5))
        told = list(islice(outcomes, 5))
        assert [isinstance(each, Imported) for each in told] == [True] * 3 + [False] * 2
        assert "away" in str(told[3])
        with pytest.raises(GivenUpError, match="away"):
            next(outcomes)


def test_the_command_tells_what_was_imported_before_the_sdb_went_away(
    sdb_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _Failing(monkeypatch, 3)
    monkeypatch.setattr("batuta.cli.commands.importing.RETRY_FOR_S", 0)
    paths = [str(file.path) for file in write_files(tmp_path, 5)]
    command = ["import", *paths, "--product", "A", "--obs-id", "{stem}", "--sdb-url", sdb_url]
    assert run([*command, "--json"]) == 1
    captured = capsys.readouterr()
    names = [each.get("obs_id") for each in json.loads(captured.out)]
    assert names == ["f0", "f1", "f2", None, None]
    assert "away" in captured.err


def test_files_are_there_once_after_the_sdb_was_killed_in_the_middle(
    make_settings: MakeSettings, database_url: str, tmp_path: Path
) -> None:
    settings = make_settings(database_url=database_url, port=free_port())
    service = ServiceProcess("batuta.sdb:run", settings)
    new = list(write_files(tmp_path, 600))
    with SdbClient(service.start(), retry_for_s=60) as client:
        outcomes = client.import_files(new)
        first = next(outcomes)
        service.kill()
        service.start()
        rest = list(outcomes)
        assert [first.stored.obs_id, *(each.stored.obs_id for each in rest)] == [  # type: ignore[union-attr]  # an error has no record
            each.obs_id for each in new
        ]
        # Sent again from the first file: what was recorded is told, and nothing is there twice.
        assert not any(each.is_new for each in client.import_files(new))  # type: ignore[union-attr]  # as above
        assert len(list(client.list())) == 600
    assert service.stop() == 0


def write_files(folder: Path, count: int) -> Iterator[NewFile]:
    for number in range(count):
        path = folder / f"f{number}.csv"
        path.write_bytes(str(number).encode())
        yield NewFile(path, "A", f"o{number}", {"metadata": {"n": number}})


def test_a_client_sends_what_is_not_small_by_itself_in_the_order_of_the_files(
    client: SdbClient, tmp_path: Path, make_file: Callable[[bytes, str], Path]
) -> None:
    image = make_file(picture(), "picture.png")
    given = [
        NewFile(make_file(b"1", "1"), "A", "o1"),
        NewFile(make_file(bytes(400 * KIB), "2"), "A", "o1"),
        NewFile(make_file(b"3", "3"), "A", "o1", {"quicklook": image}),
        NewFile(tmp_path / "missing", "A", "o1"),
        NewFile(make_file(b"4", "4"), "A", "a b"),
        NewFile(make_file(b"5", "5"), "A", "o1", {"sha256": "0" * 64}),
        NewFile(make_file(b"6", "6"), "A", "o1", {"metadata": {"a": float("nan")}}),
        NewFile(make_file(b"7", "7"), "A", "o1", {"media_type": "text/csv"}),
    ]
    outcomes = list(client.import_files(given))
    versions = [each.stored.version if isinstance(each, Imported) else 0 for each in outcomes]
    assert versions == [1, 2, 3, 0, 0, 0, 0, 4]
    errors = [str(each) for each in outcomes if isinstance(each, ServiceError)]
    for error, said in zip(
        errors, ("missing: cannot be read", "'a b'", "SHA-256", "metadata.a"), strict=True
    ):
        assert said in error
    assert client.get("A", "o1").media_type == "text/csv"


def test_an_sdb_that_knows_no_bulk_is_sent_each_file(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(open_sdb, make_settings()) as url, SdbClient(url) as client:
        post = httpx.Client.post

        def as_before(http: httpx.Client, path: str, **given: Any) -> httpx.Response:
            return post(http, "/products/nothing" if path == "/products/bulk" else path, **given)

        monkeypatch.setattr(httpx.Client, "post", as_before)
        assert all(
            isinstance(each, Imported) for each in client.import_files(write_files(tmp_path, 5))
        )
        assert len(list(client.list())) == 5


def test_files_that_would_be_of_one_observation_are_not_imported(
    sdb_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["MOD09GQ.A2024001.h18v04.hdf", "MOD09GQ.A2024001.h18v05.hdf.gz", "x.fits"]
    paths = [tmp_path / name for name in (*names, "x.png")]
    for path in paths:
        path.write_bytes(path.name.encode())
    command = ["import", "--product", "A", "--obs-id", "d-{stem}", "--sdb-url", sdb_url]
    assert run([*command, *map(str, paths)]) == 2
    told = capsys.readouterr().err
    assert f"--obs-id d-{{stem}}: 'd-x' of both {paths[2]} and {paths[3]}" in told
    with SdbClient(sdb_url) as client:
        assert list(client.list()) == []
        assert run([*command, *map(str, paths[:3])]) == 0
        assert sorted(each.obs_id for each in client.list()) == [
            "d-MOD09GQ.A2024001.h18v04",
            "d-MOD09GQ.A2024001.h18v05",
            "d-x",
        ]


def test_the_command_imports_many_files_and_tells_of_each(
    sdb_url: str, tmp_path: Path, store_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / f"night-{number}.fits.gz" for number in range(3)]
    for path in paths:
        path.write_bytes(path.name.encode())
    command = ["import", *map(str, paths), "--product", "A", "--sdb-url", sdb_url]
    assert run([*command, "--obs-id", "{stem}"]) == 0
    out = capsys.readouterr().out
    assert out.count(" imported: 15.0 B") == 3 or out.count(" imported: 15 B") == 3
    assert "A of night-2, version 1, imported" in out
    assert run([*command, "--obs-id", "{stem}", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(each["obs_id"], each["is_new"]) for each in told] == [
        (f"night-{number}", False) for number in range(3)
    ]
    assert run([*command, "--obs-id", "one"]) == 0
    assert len(kept(store_folder)) == 3
    capsys.readouterr()
    (tmp_path / "a b.fits").write_bytes(b"x")
    assert run(["import", str(tmp_path / "a b.fits"), *command[1:], "--obs-id", "{stem}"]) == 2
    assert "--obs-id {stem}: " in capsys.readouterr().err
    assert run([*command, "--obs-id", "o1", "--sha256", "0" * 64]) == 2
    assert "--sha256: 3 files given (accepted with it: one)" in capsys.readouterr().err


def test_the_command_ends_with_an_error_if_one_file_was_refused(
    make_settings: MakeSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / f"f{number}" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes(number * 10))
    with serving(open_sdb, make_settings(product_quotas={"A": 19})) as url:
        command = ["import", *map(str, paths), "--product", "A", "--obs-id", "o1", "--sdb-url", url]
        assert run(command) == 1
    captured = capsys.readouterr()
    assert captured.out.count("imported") == 2
    assert f"{paths[2]}: sdb: store: product_quotas: A" in captured.err
    assert "1 of 3 files not imported; the others were" in captured.err
