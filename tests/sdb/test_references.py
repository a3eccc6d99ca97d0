"""Files that the sdb copies itself, from folders that its operator has named, and no others."""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest

from batuta.cli.app import run
from batuta.errors import ConfigurationError
from batuta.sdb import NewFile, SdbClient
from batuta.sdb.references import open_folders
from batuta.sdb.service import open_sdb
from batuta.service.client import ServiceError
from tests.sdb.archives import PLACES, NewPlace
from tests.sdb.conftest import MakeSettings
from tests.sdb.test_imports import kept
from tests.support.services import serving

MIB = 2**20
LARGE = os.urandom(MIB) * 35 + b"and a part of a block"


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder that may be imported from."""
    folder = tmp_path / "shared"
    (folder / "night").mkdir(parents=True)
    return folder


@pytest.fixture(params=PLACES)
def url(
    request: pytest.FixtureRequest, make_settings: MakeSettings, new_place: NewPlace, shared: Path
) -> Iterator[str]:
    """An sdb on each database and store."""
    settings = make_settings(**asdict(new_place(request.param)), reference_folders=[shared])
    with serving(open_sdb, settings) as opened:
        yield opened


@pytest.fixture
def http(make_settings: MakeSettings, shared: Path) -> Iterator[httpx.Client]:
    """Plain HTTP to an sdb on SQLite."""
    with (
        serving(open_sdb, make_settings(reference_folders=[shared])) as opened,
        httpx.Client(base_url=opened, timeout=30) as client,
    ):
        yield client


def refer(http: httpx.Client, path: Path | str | int, **said: Any) -> httpx.Response:
    body = {
        "path": path if isinstance(path, int) else str(path),
        "product": "A",
        "obs_id": "o1",
        **said,
    }
    # In ASCII, so that a path may have what no text of Unicode has.
    head = {"Content-Type": "application/json"}
    return http.post("/products/reference", content=json.dumps(body), headers=head)


@pytest.mark.parametrize("content", [b"", b"small", LARGE], ids=["empty", "small", "large"])
def test_a_file_is_imported_by_its_path(
    url: str, shared: Path, content: bytes, tmp_path: Path
) -> None:
    path = shared / "night" / "a b.csv"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    with SdbClient(url) as client:
        said: dict[str, Any] = {"metadata": {"a": 1}, "by_reference": True}
        first = client.import_or_repeat(path, "A", "o1", **said)
        assert (first.stored.sha256, first.stored.size) == (digest, len(content))
        assert (first.stored.filename, first.stored.media_type) == ("a b.csv", "text/csv")
        assert first.stored.metadata == {"a": 1}
        again = client.import_or_repeat(path, "A", "o1", **said)
        assert (first.is_new, again.is_new, again.stored) == (True, False, first.stored)
        # As sent by HTTP: the same import.
        assert client.import_file(path, "A", "o1", metadata={"a": 1}) == first.stored
        # What becomes of the sender's file is nothing to the product.
        path.write_bytes(b"written over")
        client.export("A", "o1", to=tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == content


def test_no_path_leads_out_of_the_folders(
    http: httpx.Client, shared: Path, tmp_path: Path, store_folder: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"nobody's business")
    (tmp_path / "shared-too").mkdir()
    (tmp_path / "shared-too" / "x").write_bytes(b"x")
    (shared / "link").symlink_to(secret)
    (shared / "out").symlink_to(tmp_path)
    (shared / "in").symlink_to(shared / "night")
    (shared / "night" / "x").write_bytes(b"x")
    os.mkfifo(shared / "pipe")
    for path, status in (
        (secret, 403),
        ("/etc/passwd", 403),
        (tmp_path / "shared-too" / "x", 403),
        ("night/x", 403),
        ("", 403),
        (f"{shared}/../secret", 404),
        (f"{shared}/night/../../secret", 404),
        (shared / "link", 404),
        (shared / "out" / "secret", 404),
        (shared / "in" / "x", 404),
        (shared, 404),
        (shared / "night", 404),
        (shared / "missing", 404),
        (shared / "pipe", 404),
        (f"{shared}/night/x\0y", 422),
        (f"{shared}/night/" + "x" * 300, 422),
        (f"{shared}/" + "x/" * 3000, 404),
        (f"{shared}/\ud800/x", 404),
    ):
        answer = refer(http, path)
        assert answer.status_code == status, path
        assert answer.json()["detail"].startswith(("path: ", "file: filename"))
        assert "\n" not in answer.json()["detail"]
    assert http.get("/products").json()["items"] == []
    assert kept(store_folder) == []
    assert refer(http, shared / "night" / "x").status_code == 201


def test_a_path_that_is_changed_into_a_link_meanwhile_is_never_followed(
    http: httpx.Client, shared: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"nobody's business")
    good, target = shared / "good", shared / "target"
    good.write_bytes(b"good")
    ended = threading.Event()

    def change() -> None:
        while not ended.is_set():
            (shared / "next").symlink_to(secret)
            (shared / "next").replace(target)
            os.link(good, shared / "next")
            (shared / "next").replace(target)
            (shared / "next").unlink(missing_ok=True)

    changing = threading.Thread(target=change)
    changing.start()
    try:
        answers = [refer(http, target, obs_id=f"o{number}") for number in range(100)]
    finally:
        ended.set()
        changing.join()
    assert {each.status_code for each in answers} <= {201, 404, 409}
    digest = hashlib.sha256(b"good").hexdigest()
    assert {each["sha256"] for each in http.get("/products").json()["items"]} <= {digest}


@pytest.mark.parametrize(
    ("said", "status", "problem"),
    [
        ({"path": 7}, 422, "path: '7' (accepted: the absolute path of a file)"),
        ({"color": "red"}, 422, "unknown: 'color'"),
        ({"product": "../x"}, 422, "is not a name"),
        ({"sha256": "0" * 64}, 422, "its SHA-256 is"),
        ({"metadata": {"a": "x" * 2 * MIB}}, 413, "body: larger than"),
    ],
    ids=str,
)
def test_a_wrong_request_is_refused_in_one_line(
    http: httpx.Client,
    shared: Path,
    store_folder: Path,
    said: dict[str, Any],
    status: int,
    problem: str,
) -> None:
    for name, content in (("small", b"x"), ("large", LARGE)):
        (shared / name).write_bytes(content)
        answer = refer(http, **{"path": shared / name, **said})
        assert answer.status_code == status
        assert problem in answer.json()["detail"]
    assert kept(store_folder) == []
    as_text = http.post(
        "/products/reference", content=b"{}", headers={"Content-Type": "text/plain"}
    )
    assert as_text.status_code == 415


def test_quotas_and_the_largest_size_hold(make_settings: MakeSettings, shared: Path) -> None:
    settings = make_settings(reference_folders=[shared], quota_bytes=MIB, max_upload_bytes=2 * MIB)
    with serving(open_sdb, settings) as url, httpx.Client(base_url=url) as http:
        for size, status in ((MIB + 1, 507), (2 * MIB + 1, 413), (MIB, 201)):
            (shared / "a").write_bytes(bytes(size))
            assert refer(http, shared / "a").status_code == status


def test_without_folders_nothing_is_imported_by_reference(sdb_url: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with SdbClient(sdb_url) as client:
        with pytest.raises(ServiceError, match="none is named: see reference_folders"):
            client.import_file(tmp_path / "a", "A", "o1", by_reference=True)
        [outcome] = client.import_files(
            [NewFile(tmp_path / "a", "A", "o1", {"by_reference": True})]
        )
        assert isinstance(outcome, ServiceError)


def test_a_folder_that_is_none_or_is_the_sdbs_own_is_refused_at_start(
    make_settings: MakeSettings, tmp_path: Path, store_folder: Path
) -> None:
    store_folder.mkdir()
    link = tmp_path / "link"
    link.symlink_to(store_folder / "sha256")
    for folder, said in (
        (tmp_path / "missing", "missing: not a folder"),
        (tmp_path, "overlaps .*store, which is the sdb's"),
        (link, "overlaps .*store, which is the sdb's"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            open_folders(make_settings(reference_folders=[folder]))


def test_the_command_imports_by_reference_through_a_link_of_the_sender(
    http: httpx.Client, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shared / "a.fits").write_bytes(b"by reference")
    (tmp_path / "mine").symlink_to(shared)
    names = ["--product", "A", "--obs-id", "o1", "--sdb-url", str(http.base_url)]
    assert run(["import", str(tmp_path / "mine" / "a.fits"), *names, "--by-reference"]) == 0
    assert "A of o1, version 1, imported: 12" in capsys.readouterr().out
