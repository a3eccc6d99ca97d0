"""Large files that are imported in parts: after a cut, a restart or a kill, not from the start."""

import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from batuta.sdb import SdbClient
from batuta.sdb.service import open_sdb
from batuta.service.client import ServiceError
from tests.sdb.archives import picture
from tests.sdb.conftest import MakeSettings
from tests.sdb.test_imports import kept, metric
from tests.support.cutting_proxy import CuttingProxy
from tests.support.servers import free_port
from tests.support.services import ServiceProcess, serving
from tests.support.waiting import eventually_sync

MIB = 2**20
SIZE: Final = 24 * MIB
CONTENT: Final = os.urandom(MIB) * (SIZE // MIB)
DIGEST: Final = hashlib.sha256(CONTENT).hexdigest()
IMPORT: Final = (
    "import sys; from pathlib import Path; from batuta.sdb import SdbClient; "
    "client = SdbClient(sys.argv[1], resumable_from_bytes=1); "
    "print(client.import_file(Path(sys.argv[2]), 'EVT', 'o1').sha256)"
)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.fits"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def proxy(sdb_on_each: str) -> Iterator[CuttingProxy]:
    """Before an sdb on each database."""
    with CuttingProxy(httpx.URL(sdb_on_each).port or 0) as opened:
        yield opened


def client_of(url: str, **options: Any) -> SdbClient:
    return SdbClient(url, **{"retry_for_s": 30, "resumable_from_bytes": MIB, **options})


@pytest.mark.parametrize("sha256", [None, DIGEST.upper()])
def test_an_import_goes_on_after_each_cut(
    proxy: CuttingProxy, large: Path, sdb_on_each: str, sha256: str | None
) -> None:
    proxy.cut_after(*(5 * MIB + 3 for _ in range(3)))
    with client_of(proxy.url) as client:
        stored = client.import_file(large, "EVT", "o1", metadata={"a": 1}, sha256=sha256)
    assert (stored.sha256, stored.size, stored.version) == (DIGEST, SIZE, 1)
    assert (stored.filename, stored.metadata) == ("large.fits", {"a": 1})
    assert proxy.cuts == 3
    # Little more than the file itself has come through, for all its cuts.
    assert SIZE <= proxy.passed_bytes < SIZE + 6 * MIB
    with httpx.Client(base_url=sdb_on_each) as http:
        assert metric(http, "batuta_sdb_resumed_uploads_total") == 3


def test_an_import_goes_on_after_the_sdb_was_killed(
    make_settings: MakeSettings, database_url: str, large: Path
) -> None:
    settings = make_settings(database_url=database_url, port=free_port())
    service = ServiceProcess("batuta.sdb:run", settings)
    with CuttingProxy(httpx.URL(service.start()).port or 0, 20 * MIB) as proxy:
        process = subprocess.Popen(
            [sys.executable, "-c", IMPORT, proxy.url, str(large)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for passed in (4 * MIB, 12 * MIB):
            eventually_sync(lambda passed=passed: proxy.passed_bytes >= passed)  # type: ignore[misc]  # mypy cannot infer a lambda's default
            service.kill()
            service.start()
        out, _ = process.communicate(timeout=60)
        assert out.strip() == DIGEST
        # What was on its way, and what was not recorded yet to be on the disk, came again.
        assert proxy.passed_bytes < 2 * SIZE
    assert service.stop() == 0


def test_a_sender_that_was_killed_goes_on_when_it_is_started_again(
    sdb_on_each: str, large: Path, store_folder: Path
) -> None:
    with CuttingProxy(httpx.URL(sdb_on_each).port or 0, 20 * MIB) as proxy:
        command = [sys.executable, "-c", IMPORT, proxy.url, str(large)]
        killed = subprocess.Popen(command, stdout=subprocess.PIPE)
        eventually_sync(lambda: proxy.passed_bytes >= 10 * MIB)
        killed.kill()
        killed.communicate()
        before = proxy.passed_bytes
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        assert done.stdout.strip() == DIGEST
        assert proxy.passed_bytes - before < SIZE - 5 * MIB
    assert list((store_folder / "incoming").iterdir()) == []


def test_another_file_of_the_same_name_is_not_taken_for_the_one_that_was_cut(
    sdb_url: str, large: Path, store_folder: Path
) -> None:
    with CuttingProxy(httpx.URL(sdb_url).port or 0) as proxy:
        proxy.cut_after(10 * MIB)
        with client_of(proxy.url, retry_for_s=0) as client, pytest.raises(ServiceError):
            client.import_file(large, "EVT", "o1")
    other = CONTENT[::-1]
    large.write_bytes(other)
    with client_of(sdb_url) as client:
        stored = client.import_file(large, "EVT", "o1")
        assert stored.sha256 == hashlib.sha256(other).hexdigest()
        assert client.import_file(large, "EVT", "o2").obs_id == "o2"
    assert other in kept(store_folder)


def test_a_file_that_changes_meanwhile_is_told_and_not_recorded(
    proxy: CuttingProxy, large: Path, sdb_on_each: str
) -> None:
    proxy.cut_after(5 * MIB)
    proxy.on_cut = lambda: os.utime(large, (1, 1))
    with client_of(proxy.url) as client, pytest.raises(ServiceError, match="it changed while"):
        client.import_file(large, "EVT", "o1")
    with SdbClient(sdb_on_each) as client:
        assert list(client.list()) == []


def test_a_wrong_digest_is_refused_in_the_end(sdb_url: str, large: Path) -> None:
    with client_of(sdb_url) as client:
        with pytest.raises(ServiceError, match=f"its SHA-256 is {DIGEST}, not 0000"):
            client.import_file(large, "EVT", "o1", sha256="0" * 64)
        assert list(client.list()) == []


def test_a_large_file_with_a_picture_and_a_processing_is_imported_once(
    sdb_url: str, large: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = tmp_path / "picture.png"
    given.write_bytes(picture())
    said: dict[str, Any] = {"processing_id": "p1", "provider": "maker", "quicklook": given}
    with client_of(sdb_url) as client:
        first = client.import_or_repeat(large, "EVT", "o1", **said)
        again = client.import_or_repeat(large, "EVT", "o1", **said)
        assert (first.is_new, again.is_new, again.stored) == (True, False, first.stored)
        client.quicklook("EVT", "o1", to=tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == picture()
        large.write_bytes(CONTENT[:-1])
        with caplog.at_level(logging.WARNING, "batuta.sdb.import_sender"):
            assert client.import_file(large, "EVT", "o1", **said) == first.stored
        assert "had imported it with other bytes" in caplog.text
        with pytest.raises(ServiceError, match="has imported EVT for obs_id 'o1' already"):
            client.import_file(large, "EVT", "o2", **said)


def test_much_metadata_goes_in_a_form(sdb_url: str, large: Path) -> None:
    with client_of(sdb_url) as client:
        stored = client.import_file(large, "EVT", "o1", metadata={"a": "x" * 100_000})
        assert (stored.sha256, stored.metadata) == (DIGEST, {"a": "x" * 100_000})
    with httpx.Client(base_url=sdb_url) as http:
        assert metric(http, "batuta_sdb_resumed_uploads_total") == 0


def test_an_sdb_that_knows_no_uploads_is_sent_the_whole_file(
    make_settings: MakeSettings, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "batuta.sdb.service.upload_router", lambda *_: type("None", (), {"routes": ()})
    )
    with serving(open_sdb, make_settings()) as url, client_of(url) as client:
        assert httpx.get(f"{url}/uploads").status_code == 404
        assert client.import_file(large, "EVT", "o1").sha256 == DIGEST


def test_a_sender_gives_up_once_nothing_more_arrives(proxy: CuttingProxy, large: Path) -> None:
    proxy.cut_after(*[MIB] * 3, *[0] * 1000)
    with (
        client_of(proxy.url, retry_for_s=0.5) as client,
        pytest.raises(ServiceError, match=r"retried for 0\.5 s"),
    ):
        client.import_file(large, "EVT", "o1")
