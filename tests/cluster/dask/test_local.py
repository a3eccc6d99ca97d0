"""Workers of this machine, which are replaced however they, or their nannies, end."""

import asyncio
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Nanny
from distributed.core import Status

from batuta.cluster import check_configuration, create_cluster
from batuta.cluster.dask import worker_family
from batuta.cluster.errors import WorkerLostError
from tests.cluster.conftest import compute
from tests.cluster.functions import add, die


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Any]:
    conf = {"mode": "local_dask", "nb_workers": 1}
    # dask would forget a worker that is missing after this time, as under load it is after 15 s.
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1 ms"}):
        made = create_cluster(check_configuration(conf), tmp_path)
        yield made
        made.cleanup()


def living_nannies() -> list[Any]:
    return [nanny for nanny in Nanny._instances if nanny.status == Status.running]


def test_workers_that_are_lost_at_once_again_and_again_are_replaced(cluster: Any) -> None:
    for _ in range(2):
        (error,) = compute(cluster, [cluster.create_task(die)()])
        assert isinstance(error.__cause__, WorkerLostError)
    assert compute(cluster, [cluster.create_task(add)(1, 2)]) == [3]


def test_a_worker_whose_nanny_gives_up_is_replaced(cluster: Any) -> None:
    (nanny,) = living_nannies()
    asyncio.run_coroutine_threadsafe(nanny.close(), nanny.loop.asyncio_loop).result()
    assert compute(cluster, [cluster.create_task(add)(1, 2)]) == [3]
    assert living_nannies() != [nanny]


def test_the_run_ends_where_no_worker_can_be_started_any_more(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(worker_family._WorkerProcess, "start", start)
    (error,) = compute(cluster, [cluster.create_task(die)()])
    assert "workers cannot start: BlockingIOError: Resource temporarily unavailable" in str(error)
