"""The client: patient with an sdb that is away, and careful with what it writes and sends."""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from batuta.sdb import SdbClient
from batuta.sdb.service import open_sdb
from batuta.service.client import ServiceError
from tests.sdb.conftest import MakeSettings
from tests.support.servers import free_port
from tests.support.services import serving

MakeFile = Callable[[bytes], Path]

TOKEN = "a-token-of-a-test"  # noqa: S105  of no service


@pytest.fixture
def small_file_bytes() -> int:
    """All bytes are in the store."""
    return 0


@contextmanager
def disconnecting_server() -> Iterator[tuple[str, list[bytes]]]:
    """A server that reads a little of each request and hangs up; gives what it has read."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    received.append(connection.recv(65_536))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", received
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_the_client_retries_until_the_sdb_is_reachable(
    make_settings: MakeSettings, make_file: MakeFile
) -> None:
    port = free_port()
    path = make_file(b"x")
    with SdbClient(f"http://127.0.0.1:{port}", retry_for_s=30) as client:
        refused = threading.Event()
        client._http.event_hooks = {"request": [lambda _: refused.set()]}
        done: list[int] = []
        sender = threading.Thread(
            target=lambda: done.append(client.import_file(path, "A", "o1").version)
        )
        sender.start()
        assert refused.wait(10)
        with serving(open_sdb, make_settings(port=port)):
            sender.join(30)
    assert done == [1]


def test_the_client_gives_up_after_retry_for_s(make_file: MakeFile) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with (
        SdbClient(url, retry_for_s=0.3) as client,
        pytest.raises(ServiceError, match=rf"sdb at {url} cannot be reached: .*for 0.3 s"),
    ):
        client.import_file(make_file(b"x"), "A", "o1")


@pytest.mark.parametrize("processing_id", [None, "p1"])
def test_an_import_that_was_cut_is_sent_again(
    make_file: MakeFile, processing_id: str | None
) -> None:
    with disconnecting_server() as (url, received), SdbClient(url, retry_for_s=0.5) as client:
        with pytest.raises(ServiceError, match=r"retried for 0\.5 s"):
            client.import_file(make_file(b"x"), "A", "o1", processing_id=processing_id)
        assert len(received) > 2


@pytest.mark.parametrize("url", ["nowhere", "ftp://127.0.0.1", "http://127.0.0.1:99999", "http://"])
def test_an_invalid_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(ServiceError, match="is not an address"):
        SdbClient(url)


def test_a_refusal_is_given_at_once_with_its_reason(client: SdbClient, make_file: MakeFile) -> None:
    with pytest.raises(ServiceError, match="product: 'a b' is not a name") as caught:
        client.import_file(make_file(b"x"), "a b", "o1", processing_id="p1")
    assert caught.value.refused
    with pytest.raises(ServiceError, match="A of o1: not found") as caught:
        client.get("A", "o1")
    assert caught.value.status == 404


def test_a_file_with_another_digest_than_expected_is_refused(
    client: SdbClient, make_file: MakeFile
) -> None:
    with pytest.raises(ServiceError, match=f"not {'0' * 64} as declared"):
        client.import_file(make_file(b"x"), "A", "o1", sha256="0" * 64)
    assert list(client.list()) == []


def test_a_missing_file_is_named(client: SdbClient, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        client.import_file(tmp_path / "missing", "A", "o1")


def test_an_export_replaces_the_file_and_leaves_nothing_beside_it(
    client: SdbClient, make_file: MakeFile, tmp_path: Path
) -> None:
    client.import_file(make_file(b"new"), "A", "o1")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a.bin").write_bytes(b"old, and longer")
    assert client.export("A", "o1", to=folder / "a.bin").version == 1
    assert (folder / "a.bin").read_bytes() == b"new"
    assert [path.name for path in folder.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("damage", [b"evil", b"no"])
def test_bytes_that_are_not_those_imported_are_never_written(
    make_settings: MakeSettings,
    make_file: MakeFile,
    store_folder: Path,
    tmp_path: Path,
    damage: bytes,
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with serving(open_sdb, make_settings()) as url, SdbClient(url, retry_for_s=0.5) as client:
        stored = client.import_file(make_file(b"good"), "A", "o1")
        (store_folder / "sha256" / stored.sha256[:2] / stored.sha256[2:]).write_bytes(damage)
        with pytest.raises(ServiceError, match="sdb"):
            client.export("A", "o1", to=folder / "a.bin")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("change", [b"shorter", b"x" * 5_000_000])
def test_a_file_that_changes_while_it_is_sent_is_not_imported(
    client: SdbClient, make_file: MakeFile, change: bytes
) -> None:
    path = make_file(b"x" * 3_000_000)
    # It changes between its size being taken and its bytes being sent.
    client._http.event_hooks = {"request": [lambda _: path.write_bytes(change) and None]}
    with pytest.raises(ServiceError, match="changed while it was being imported"):
        client.import_file(path, "A", "o1", processing_id="p1")
    client._http.event_hooks = {}
    assert list(client.list()) == []


def test_a_token_is_asked_for_where_there_is_one(
    make_settings: MakeSettings, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BATUTA_TOKEN", raising=False)
    with serving(open_sdb, make_settings(token=TOKEN)) as url:
        with (
            SdbClient(url) as client,
            pytest.raises(ServiceError, match="missing token") as caught,
        ):
            client.import_file(make_file(b"x" * 5_000_000), "A", "o1")
        assert caught.value.status == 401
        with SdbClient(url, token=TOKEN) as client:
            assert client.import_file(make_file(b"x"), "A", "o1").version == 1
        monkeypatch.setenv("BATUTA_TOKEN", TOKEN)
        with SdbClient(url) as client:
            assert client.get("A", "o1").version == 1


def test_the_client_loads_no_web_framework_and_no_database() -> None:
    program = (
        "import sys, batuta.sdb; "
        "heavy = {'fastapi', 'starlette', 'uvicorn', 'sqlalchemy', 'alembic', 'obstore'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"
