"""Data are held by workers, once, and no longer than they are needed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from distributed import Client

from batuta.cluster import check_configuration, create_cluster
from tests.cluster import functions
from tests.cluster.conftest import compute
from tests.support.forked import forked_workers
from tests.support.waiting import eventually_sync


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A `local_dask` cluster for several tests."""
    with local_dask(tmp_path_factory.mktemp("local")) as cluster:
        yield cluster


@contextlib.contextmanager
def local_dask(folder: Path) -> Iterator[Any]:
    cluster = create_cluster(check_configuration({"mode": "local_dask"}), folder)
    try:
        yield cluster
    finally:
        cluster.cleanup()


@contextlib.contextmanager
def on_dask(address: str, folder: Path) -> Iterator[Any]:
    """A cluster on one that is there, which others use before and after."""
    conf = check_configuration({"mode": "dask", "scheduler_address": address})
    cluster = create_cluster(conf, folder / "out")
    try:
        yield cluster
    finally:
        cluster.cleanup()


def scheduler_of(cluster: Any) -> Any:
    return (
        cluster._engine._client.cluster.scheduler
    )  # there is no public way to see dask's own state


def test_dask_never_knows_more_tasks_than_its_workers_need(local: Any) -> None:
    delayed = [local.create_task(functions.add)(number) for number in range(1000)]
    largest = 0
    for _ in local.future_iterator(local.start_tasks(delayed)):
        largest = max(largest, len(scheduler_of(local).tasks))
    assert largest < 300


def test_results_that_were_read_are_freed_by_the_workers(local: Any) -> None:
    delayed = [local.create_task(functions.zeros)(100_000) for _ in range(50)]
    assert len(list(local.future_iterator(local.start_tasks(delayed)))) == 50
    eventually_sync(lambda: not scheduler_of(local).tasks)


def test_a_large_argument_of_many_tasks_is_sent_once(local: Any) -> None:
    relief = np.arange(1_000_000)
    sums = [local.create_task(np.sum)(relief) for _ in range(40)]
    futures = local.start_tasks(sums)
    data: set[str] = set()
    for value in local.future_iterator(futures):
        assert value == relief.sum()
        data |= {key for key in list(scheduler_of(local).tasks) if str(key).startswith("data-")}
    assert len(data) == 1


def test_a_large_argument_changed_in_place_by_a_task_is_unchanged_for_the_next(local: Any) -> None:
    relief = np.zeros(1_000_000)
    filled = [local.create_task(functions.fill)(relief, 1) for _ in range(4)]
    sums = [local.create_task(np.sum)(relief) for _ in range(4)]
    assert compute(local, [local.create_task(np.sum)(each) for each in filled]) == [1_000_000] * 4
    assert compute(local, sums) == [0] * 4
    assert not relief.any()


def test_scattered_data_outlive_the_workers_that_held_them(tmp_path: Path) -> None:
    others = {worker.pid for worker in forked_workers()}
    with local_dask(tmp_path) as cluster:
        handle = cluster.scatter(np.ones(500_000))
        assert compute(cluster, [cluster.create_task(np.sum)(handle)]) == [500_000]
        workers = [worker for worker in forked_workers() if worker.pid not in others]
        assert len(workers) == 2
        for worker in workers:
            worker.kill()
        sums = [cluster.create_task(np.sum)(handle) for _ in range(4)]
        assert compute(cluster, sums) == [500_000] * 4


def test_results_go_from_workers_to_the_main_process_without_passing_through_the_scheduler(
    dask_scheduler_address: str, tmp_path: Path
) -> None:
    scheduler = _process_of(dask_scheduler_address)
    before = scheduler.memory_info().rss
    with on_dask(dask_scheduler_address, tmp_path) as cluster:
        delayed = [cluster.create_task(functions.zeros)(4_000_000) for _ in range(30)]
        peak = 0
        for value in cluster.future_iterator(cluster.start_tasks(delayed)):
            assert value.nbytes == 16_000_000
            peak = max(peak, scheduler.memory_info().rss)
    assert peak - before < 100e6  # of 480 MB that were made


def test_results_go_directly_from_one_worker_to_another(
    dask_scheduler_address: str, tmp_path: Path
) -> None:
    scheduler, this = _process_of(dask_scheduler_address), psutil.Process()
    with on_dask(dask_scheduler_address, tmp_path) as cluster:
        arrays = [cluster.create_task(functions.zeros)(4_000_000) for _ in range(16)]
        sums = [  # each array is used by two tasks, each task uses two
            cluster.create_task(functions.sum_of_arrays)(first, second)
            for first, second in zip(arrays, arrays[1:] + arrays[:1], strict=True)
        ]
        before = scheduler.memory_info().rss, this.memory_info().rss
        assert compute(cluster, sums) == [0] * 16
        after = scheduler.memory_info().rss, this.memory_info().rss
    assert after[0] - before[0] < 60e6  # of 256 MB that were made
    assert after[1] - before[1] < 60e6


def test_nothing_is_left_on_an_existing_cluster(
    dask_scheduler_address: str, tmp_path: Path
) -> None:
    with on_dask(dask_scheduler_address, tmp_path) as cluster:
        futures = cluster.start_tasks(
            [cluster.create_task(functions.zeros)(1000) for _ in range(20)]
        )
        next(iter(cluster.future_iterator(futures)))
    with Client(dask_scheduler_address, set_as_default=False) as client:
        eventually_sync(lambda: not client.run_on_scheduler(_tasks))


def _tasks(dask_scheduler: Any) -> list[str]:
    return list(map(str, dask_scheduler.tasks))


def _process_of(address: str) -> psutil.Process:
    port = int(address.rpartition(":")[2])
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it has just ended
            if "distributed.cli.dask_scheduler" in " ".join(process.cmdline()):
                ports = {each.laddr.port for each in process.net_connections() if each.laddr}
                if port in ports:
                    return process
    raise AssertionError(f"no scheduler listens at {address}")
