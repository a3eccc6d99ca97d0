"""The heartbeat of a worker, from both sides."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from batuta.cluster.local.heartbeat import IDLE, Heartbeat

WRITE_S = 1.0


@pytest.fixture
def main(tmp_path: Path) -> Iterator[Heartbeat]:
    """Create a heartbeat, the side of the main process."""
    with closing(Heartbeat.create(str(tmp_path / "heartbeat"))) as heartbeat:
        yield heartbeat


@pytest.fixture
def worker(main: Heartbeat) -> Iterator[Heartbeat]:
    """Open the side of the worker."""
    with closing(Heartbeat(main.path)) as heartbeat:
        yield heartbeat


def test_a_new_worker_is_idle_and_has_begun_nothing(main: Heartbeat) -> None:
    assert main.read()[:2] == (-1, IDLE)


def test_the_other_side_reads_the_request_its_step_and_for_how_long(
    main: Heartbeat, worker: Heartbeat
) -> None:
    assert worker.begin(7)
    assert main.read()[:2] == (7, 0)
    worker.record_step(7, 3)
    number, step, for_s = main.read()
    assert (number, step) == (7, 3)
    assert 0 <= for_s < 60
    worker.record_step(7, IDLE)
    assert main.read()[:2] == (7, IDLE)


def test_requests_after_the_one_that_runs_can_be_withdrawn(
    main: Heartbeat, worker: Heartbeat
) -> None:
    worker.begin(3)
    assert main.withdraw(6) == 4
    assert not worker.begin(4)
    assert not worker.begin(5)
    assert worker.begin(6)


def write_two_states(path: str) -> None:
    end_s = time.monotonic() + WRITE_S
    with closing(Heartbeat(path)) as worker:
        while time.monotonic() < end_s:
            for _ in range(100):
                worker.record_step(5, 7)
                worker.record_step(6, 8)


def test_a_state_is_never_read_half_written(main: Heartbeat) -> None:
    main.record_step(5, 7)
    writer = multiprocessing.get_context("spawn").Process(
        target=write_two_states, args=(main.path,)
    )
    writer.start()
    found = set()
    while writer.is_alive():
        found |= {main.read()[:2] for _ in range(1000)}
    writer.join()
    assert writer.exitcode == 0
    assert found <= {(5, 7), (6, 8)}
