"""Each task has its own copy of its arguments, whoever else has them, and when it runs again."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batuta.cluster import AbstractCluster, check_configuration, create_cluster
from batuta.cluster.contract import WorkerCount
from tests.cluster import functions
from tests.cluster.conftest import compute
from tests.support.dask_clusters import dask_configuration, scheduler_alone


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AbstractCluster]:
    folder = tmp_path_factory.mktemp("local")
    cluster = create_cluster(check_configuration({"mode": "local_dask"}), folder)
    yield cluster
    cluster.cleanup()


def test_a_task_that_changed_its_input_and_failed_gets_it_unchanged_when_it_runs_again(
    local: Any, tmp_path: Path
) -> None:
    zeros = local.create_task(functions.zeros)(100_000)
    other = local.create_task(functions.sum_of_arrays)(zeros)
    spoiled = local.create_task(functions.spoil_first)(str(tmp_path / "marker"), zeros)
    failed, _ = compute(local, [spoiled, other])
    assert "ValueError: the first time" in str(failed)
    assert compute(local, [spoiled]) == [100_000]


def test_a_value_that_a_task_caches_is_not_changed_by_the_tasks_that_use_its_result(
    local: Any,
) -> None:
    arrays = [local.create_task(functions.kept_array)(index) for index in range(6)]
    filled = [local.create_task(functions.fill)(each, 7) for each in arrays]
    sums = [local.create_task(functions.sum_of_arrays)(each) for each in arrays]
    compute(local, [*filled, *sums])
    again = [local.create_task(functions.kept_array)(index) for index in range(6)]
    assert [each.max() for each in compute(local, again)] == [0] * 6


def test_a_large_argument_that_changed_between_two_computations_is_sent_again(local: Any) -> None:
    relief = np.zeros(500_000)
    assert compute(local, [local.create_task(np.sum)(relief)]) == [0]
    relief += 1
    assert compute(local, [local.create_task(np.sum)(relief)]) == [500_000]


def test_a_long_message_keeps_its_cause(local: Any) -> None:
    (error,) = compute(local, [local.create_task(functions.fail)("x" * 50_000)])
    assert isinstance(error.__cause__, ValueError)


def test_a_large_argument_may_hold_scattered_data(local: Any) -> None:
    handle = local.scatter(np.ones(10))
    together = [handle, np.ones(500_000)]
    assert compute(local, [local.create_task(functions.sum_of_list)(together)]) == [500_010]


def test_a_partial_is_named_by_its_function(local: Any) -> None:
    task = partial(functions.fail, "x" * 10_000)
    (error,) = compute(local, [local.create_task(task)()])
    assert error.function == "fail"


def test_programs_on_the_same_cluster_get_their_own_results(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    conf = check_configuration(dask_configuration("dask", request))
    clusters = [create_cluster(conf, tmp_path / name) for name in ("a", "b")]
    found: dict[int, list[Any]] = {}

    def compute_range(rank: int) -> None:
        delayed = [clusters[rank].create_task(functions.add)(rank * 1000, n) for n in range(40)]
        found[rank] = compute(clusters[rank], delayed)

    threads = [threading.Thread(target=compute_range, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for cluster in clusters:
        cluster.cleanup()
    assert found == {0: list(range(40)), 1: list(range(1000, 1040))}


def test_a_cluster_without_workers_reports_that_there_are_none(tmp_path: Path) -> None:
    with scheduler_alone(tmp_path) as address:
        conf = check_configuration({"mode": "dask", "scheduler_address": address})
        cluster: Any = create_cluster(conf, tmp_path / "out")

        def interrupt(count: WorkerCount) -> None:
            raise InterruptedError(f"{count.present} workers")

        cluster.on_workers = interrupt
        try:
            with pytest.raises(InterruptedError, match="0 workers"):
                compute(cluster, [cluster.create_task(functions.add)(1)])
        finally:
            cluster.cleanup()


SCRIPT = """
import sys
from dataclasses import dataclass
import numpy as np
from batuta.cluster import check_configuration, create_cluster

@dataclass
class Parameters:
    relief: np.ndarray

def total(parameters):
    return float(parameters.relief.sum())

if __name__ == "__main__":
    conf = {"mode": "dask", "scheduler_address": sys.argv[1]}
    cluster = create_cluster(check_configuration(conf), None)
    large = Parameters(np.ones(500_000))
    tasks = [cluster.create_task(total)(large), cluster.create_task(total)(cluster.scatter(large))]
    print(list(cluster.future_iterator(cluster.start_tasks(tasks))))
    cluster.cleanup()
"""


def test_large_objects_of_classes_of_the_main_script_are_sent(
    tmp_path: Path, dask_scheduler_address: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), dask_scheduler_address]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[500000.0, 500000.0]\n"
