"""What workers import before any task, and where dask's dashboard is served."""

import logging
import os
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from batuta.cluster import check_configuration, create_cluster, preload
from tests.cluster.conftest import compute
from tests.support.dask_clusters import dask_configuration


@pytest.mark.parametrize("mode", ["local_dask", "slurm_dask"])
def test_preloaded_modules_are_imported_before_any_task(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "batuta_early.py").write_text("import os\nos.environ['BATUTA_EARLY'] = 'yes'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(preload, "_MODULES", {"batuta_early": None})
    conf = dask_configuration(mode, request) | {"nb_workers": 1}
    cluster = create_cluster(check_configuration(conf), tmp_path)
    try:
        assert compute(cluster, [cluster.create_task(os.getenv)("BATUTA_EARLY")]) == ["yes"]
    finally:
        cluster.cleanup()
    assert "BATUTA_EARLY" not in os.environ


@pytest.mark.parametrize("mode", ["local_dask", "slurm_dask"])
def test_the_dashboard_is_on_the_loopback_address_that_is_logged(
    mode: str, tmp_path: Path, messages: list[str], request: pytest.FixtureRequest
) -> None:
    conf = dask_configuration(mode, request) | {"nb_workers": 1, "activate_dashboard": True}
    cluster = create_cluster(check_configuration(conf), tmp_path)
    try:
        (message,) = [each for each in messages if "dashboard" in each]
        address = message.rpartition(" ")[2]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address, timeout=20) as page:  # noqa: S310 - http
            assert b"Dask" in page.read()
        port = int(address.rpartition(":")[2].partition("/")[0])
        for host in other_addresses():
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, port), timeout=5)
    finally:
        cluster.cleanup()


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What batuta logs; caplog misses it, since dask raises the level of its handler."""
    logged: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: logged.append(record.getMessage()))
    logger = logging.getLogger("batuta")
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield logged
    logger.removeHandler(handler)
    logger.setLevel(before)


def other_addresses() -> set[str]:
    """Return the addresses by which other machines may reach this one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent
        return {str(probe.getsockname()[0])} - {"127.0.0.1"}


def test_the_environment_of_the_program_is_left_as_it_was(tmp_path: Path) -> None:
    before = dict(os.environ)
    cluster = create_cluster(check_configuration({"mode": "local_dask"}), tmp_path)
    cluster.cleanup()
    assert dict(os.environ) == before
