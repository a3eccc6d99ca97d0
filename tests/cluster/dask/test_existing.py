"""A dask cluster that runs already: its certificates, and the loss of its scheduler."""

import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client
from distributed.comm.core import CommClosedError

from batuta.cluster import ClusterError, check_configuration, create_cluster
from batuta.cluster.dask import existing, monitor
from batuta.errors import ConfigurationError
from batuta.orchestrator import Orchestrator, TilesFailedError
from tests.cluster.dask.gated import Gate
from tests.cluster.dask.tiles_program import compute_tiles
from tests.support.dask_clusters import manual_cluster

ENDS = {
    "killed": (signal.SIGKILL, "lost the connection to dask's scheduler"),
    "frozen": (signal.SIGSTOP, "dask's scheduler has not answered for 2 s"),
}


@pytest.fixture
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with manual_cluster(tmp_path_factory.mktemp("dask")) as address:
        yield address


@pytest.mark.parametrize("how", ENDS)
def test_a_run_whose_scheduler_is_lost_fails_with_the_list_of_missing_tiles(
    address: str,
    gate: Gate,
    tmp_path: Path,
    executor: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    monkeypatch.setattr(monitor, "ANSWER_TIMEOUT_S", 2.0)
    number, reason = ENDS[how]
    conf = {"mode": "dask", "scheduler_address": address}
    run = executor.submit(compute_tiles, tmp_path, conf, 4)
    gate.wait_for_starts(2)
    with _signalled(_listening_at(address), number):
        error = run.exception(timeout=40)
    gate.open()
    assert isinstance(error, TilesFailedError)
    assert {(failure.row, failure.col) for failure in error.failures} == {(0, n) for n in range(4)}
    assert reason in str(error)


@contextmanager
def _signalled(process: psutil.Process, number: int) -> Iterator[None]:
    process.send_signal(number)
    yield
    if process.is_running():
        process.send_signal(signal.SIGCONT)


def _listening_at(address: str) -> psutil.Process:
    port = int(address.rsplit(":", 1)[1])
    (found,) = [
        child
        for child in psutil.Process().children()
        if port in {each.laddr.port for each in child.net_connections() if each.status == "LISTEN"}
    ]
    return found


def test_an_address_without_a_scheduler_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(existing, "CONNECT_TIMEOUT_S", 2)
    with socket.socket() as bound:  # which nothing listens on
        bound.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{bound.getsockname()[1]}"
        conf = check_configuration({"mode": "dask", "scheduler_address": address})
        with pytest.raises(
            ClusterError, match=f"^scheduler_address: could not connect to .* at {address}: "
        ):
            create_cluster(conf, tmp_path)


TLS_ADDRESS = "tls://127.0.0.1:1"


def problems(**keys: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        Orchestrator({"mode": "dask", "scheduler_address": TLS_ADDRESS, **keys})
    return list(caught.value.problems)


def test_each_certificate_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    readable = tmp_path / "ca.pem"
    readable.touch()
    missing = [str(tmp_path / name) for name in ("cert.pem", "key.pem")]
    assert problems(tls_ca_file=str(readable), tls_cert=missing[0], tls_key=missing[1]) == [
        f"tls_cert: {missing[0]!r} given, a readable file expected",
        f"tls_key: {missing[1]!r} given, a readable file expected",
    ]


def test_a_tls_address_without_certificates_is_refused() -> None:
    assert problems() == [
        f"scheduler_address: {TLS_ADDRESS!r} given, which needs tls_ca_file, tls_cert and tls_key"
    ]


def test_a_worker_that_is_lost_while_workers_are_set_up_is_no_reason_to_fail(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = [CommClosedError("Stream is closed"), CommClosedError("Stream is closed")]
    register = Client.register_plugin

    def register_after_losses(self: Client, plugin: Any) -> Any:
        if lost:
            raise lost.pop()
        return register(self, plugin)

    monkeypatch.setattr(Client, "register_plugin", register_after_losses)
    monkeypatch.setattr(existing, "_REGISTER_PAUSE_S", 0.0)
    conf = check_configuration({"mode": "dask", "scheduler_address": address})
    create_cluster(conf, tmp_path).cleanup()
    assert not lost
