"""A version that is withdrawn is kept, and given to nobody."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from batuta.cli.app import run
from batuta.messaging import DataWithdrawn, decode_data
from batuta.sdb import SdbClient
from batuta.sdb.service import open_sdb
from batuta.service.client import ServiceError
from tests.sdb.conftest import MakeSettings
from tests.sdb.test_outbox import announced
from tests.support.servers import NatsServer
from tests.support.services import serving


@pytest.fixture
def three(sdb_on_each: str, tmp_path: Path) -> Iterator[SdbClient]:
    """An sdb with three versions of A, the second made by a processing."""
    with SdbClient(sdb_on_each, retry_for_s=10) as client:
        for number, processing_id in ((1, None), (2, "p1"), (3, None)):
            (tmp_path / "a").write_text(f"version {number}")
            client.import_file(
                tmp_path / "a",
                "A",
                "o1",
                processing_id=processing_id,
                attempt=None if processing_id is None else 1,
            )
        yield client


def versions(client: SdbClient, *, latest: bool = False) -> list[int]:
    return [each.version for each in client.list(product="A", latest=latest)]


def test_the_newest_version_that_is_left_counts(three: SdbClient, tmp_path: Path) -> None:
    withdrawn = three.withdraw("A", "o1", 3, "the shutter was closed")
    assert withdrawn.withdrawn_reason == "the shutter was closed"
    assert withdrawn.withdrawn is not None
    assert three.get("A", "o1").version == 2
    assert versions(three) == [1, 2]
    assert versions(three, latest=True) == [2]
    three.export("A", "o1", to=tmp_path / "back")
    assert (tmp_path / "back").read_text() == "version 2"
    listed = httpx.get(f"{three.url}/products", params={"withdrawn": "true"}).json()["items"]
    assert [each["version"] for each in listed] == [3]


def test_a_withdrawn_version_is_told_with_when_and_why(three: SdbClient, tmp_path: Path) -> None:
    three.withdraw("A", "o1", 2, "bad data")
    for ask in (
        lambda: three.get("A", "o1", 2),
        lambda: three.export("A", "o1", 2, to=tmp_path / "back"),
        lambda: three.lineage("A", "o1", 2),
    ):
        with pytest.raises(
            ServiceError, match=r"version 2, was withdrawn on .* UTC: bad data"
        ) as e:
            ask()
        assert e.value.status == 410
    data = httpx.get(f"{three.url}/products/A/o1/versions/2/data")
    assert data.status_code == 410


def test_withdrawing_again_changes_nothing(three: SdbClient) -> None:
    first = three.withdraw("A", "o1", 1, "bad data")
    assert three.withdraw("A", "o1", 1, "another reason") == first


def test_its_number_is_not_used_again_and_its_processing_may_import_another(
    three: SdbClient, tmp_path: Path
) -> None:
    for number in (1, 2, 3):
        three.withdraw("A", "o1", number)
    with pytest.raises(ServiceError, match=r"all of its versions \(1 to 3\) were withdrawn") as e:
        three.get("A", "o1")
    assert e.value.status == 404
    again = three.import_file(tmp_path / "a", "A", "o1", processing_id="p1")
    assert (again.version, again.withdrawn) == (4, None)
    assert three.import_file(tmp_path / "a", "A", "o1", processing_id="p1") == again
    assert three.import_file(tmp_path / "a", "A", "o1").version == 5


def test_lookups_find_it_only_if_they_ask_for_what_was_withdrawn(three: SdbClient) -> None:
    three.withdraw("A", "o1", 2)
    three.withdraw("A", "o1", 3)
    items: list[dict[str, object]] = [
        {"product": "A", "obs_id": "o1", "version": 2},
        {"product": "A", "obs_id": "o1"},
        {"product": "A", "processing_id": "p1"},
    ]
    items += [{**item, "withdrawn": True} for item in items]
    answer = httpx.post(f"{three.url}/products/lookup", json={"items": items}).json()["items"]
    assert [each and each["version"] for each in answer] == [None, 1, None, 2, 3, 2]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("A/o1/versions/9", 404),
        ("B/o1/versions/1", 404),
        ("A/o1/versions/0", 422),
        ("A/o1/versions/1?reason=", 422),
        ("A/o1/versions/1?reason=a%00b", 422),
    ],
)
def test_what_is_not_there_or_wrong_is_refused(
    http: httpx.Client, make_file: Callable[[bytes], Path], path: str, status: int
) -> None:
    with SdbClient(str(http.base_url)) as client:
        client.import_file(make_file(b"a"), "A", "o1")
        assert http.delete(f"/products/{path}").status_code == status
        assert versions(client) == [1]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "A of o1, version 3: give --version 3 --yes to withdraw it"),
        (["--yes"], "--yes: give --version with it (accepted: the one to withdraw)"),
        (["--reason", ""], "--reason '': (accepted: 1 to 400 printable characters)"),
        (["--reason", "x" * 401], "--reason 'xxx"),
    ],
)
def test_the_command_withdraws_nothing_that_was_not_named(
    three: SdbClient,
    arguments: list[str],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert run(["rm", "A", "o1", "--sdb-url", three.url, *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"batuta: {problem}")
    assert versions(three) == [1, 2, 3]


@pytest.mark.parametrize(("answer", "left"), [("y", [1, 2]), ("n", [1, 2, 3])])
def test_the_command_asks_on_a_terminal(
    three: SdbClient,
    answer: str,
    left: list[int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n"))
    code = run(["rm", "A", "o1", "--json", "--sdb-url", three.url])
    assert (code == 0) is (answer == "y")
    shown = capsys.readouterr()
    assert "withdraw A of o1, version 3?" in shown.err
    if answer == "y":
        assert json.loads(shown.out)["version"] == 3
    assert versions(three) == left


def test_the_command_may_be_repeated(three: SdbClient) -> None:
    for _ in range(2):
        assert run(["rm", "A", "o1", "--version=3", "--yes", "--sdb-url", three.url]) == 0
        assert versions(three) == [1, 2]


async def test_it_is_announced_once_with_the_version_that_is_left(
    own_nats: NatsServer, make_settings: MakeSettings, make_file: Callable[[bytes], Path]
) -> None:
    settings = make_settings(nats_url=own_nats.url)
    with serving(open_sdb, settings) as url, SdbClient(url) as client:
        for content in (b"a", b"b"):
            client.import_file(make_file(content), "A", "o1")
        for version in (2, 2, 1):
            client.withdraw("A", "o1", version, "wrong gain")
        *_, second, first = await announced(own_nats, 4)
    assert (second.type, second.source) == ("batuta.data.withdrawn", "/batuta/sdb")
    news = [decode_data(event.encode()) for event in (second, first)]
    assert [(n.version, n.newest, n.reason) for n in news if isinstance(n, DataWithdrawn)] == [
        (2, 1, "wrong gain"),
        (1, None, "wrong gain"),
    ]
