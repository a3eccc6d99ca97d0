"""The machine of a scheduler that others run cannot be reached any more."""

import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from batuta.cluster import ClusterError, check_configuration, create_cluster
from batuta.cluster.dask import existing, monitor
from batuta.orchestrator import TilesFailedError
from tests.cluster.dask.gated import Gate
from tests.cluster.dask.tiles_program import play
from tests.support.dask_clusters import hand_made_cluster

ENDS = {
    "killed": (signal.SIGKILL, "the connection to the scheduler of dask is lost"),
    "frozen": (signal.SIGSTOP, "the scheduler of dask has not answered for 2 s"),
}


@pytest.fixture
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with hand_made_cluster(tmp_path_factory.mktemp("dask")) as address:
        yield address


@pytest.mark.parametrize("how", ENDS)
def test_a_run_whose_scheduler_is_lost_ends_with_the_list_of_what_is_missing(
    address: str,
    gate: Gate,
    tmp_path: Path,
    aside: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    monkeypatch.setattr(monitor, "ANSWER_S", 2.0)
    number, reason = ENDS[how]
    conf = {"mode": "dask", "scheduler_address": address}
    run = aside.submit(play, tmp_path, conf, 4)
    gate.wait_for_begun(2)
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


def test_an_address_where_nobody_answers_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(existing, "CONNECT_S", 2)
    with socket.socket() as taken:  # and nobody listens there
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        conf = check_configuration({"mode": "dask", "scheduler_address": address})
        with pytest.raises(ClusterError, match=f"^scheduler_address: no .* answers at {address}: "):
            create_cluster(conf, tmp_path)
