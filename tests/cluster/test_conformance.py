"""What every mode does in the same way."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batuta.cluster import AbstractCluster, ClusterError, check_configuration, create_cluster
from batuta.cluster.dask.existing import ExistingDaskCluster
from batuta.cluster.dask.jobs.deployment import PbsDaskCluster, SlurmDaskCluster
from batuta.cluster.dask.local import LocalDaskCluster
from batuta.cluster.local.cluster import MultiprocessingCluster
from batuta.cluster.sequential import SequentialCluster
from batuta.datasets import CarsDataset, CarsDict
from batuta.errors import ConfigurationError
from tests.cluster.conftest import compute
from tests.cluster.functions import add, fill, halves, nothing, sizes, total, zeros
from tests.support.dask_clusters import DASK_MODES, dask_configuration

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "sequential": {"mode": "sequential"},
    "multiprocessing": {"mode": "multiprocessing"},
    "fork": {"mode": "multiprocessing", "mp_mode": "fork"},
    "renewed-each-task": {"mode": "multiprocessing", "max_tasks_per_worker": 1},
    "in-memory-unfused": {
        "mode": "multiprocessing",
        "dump_to_disk": False,
        "factorize_tasks": False,
    },
}


CLASSES: tuple[type[AbstractCluster], ...] = (
    SequentialCluster,
    MultiprocessingCluster,
    LocalDaskCluster,
    ExistingDaskCluster,
    SlurmDaskCluster,
    PbsDaskCluster,
)
"""For the type checker: each keeps to the contract."""


@pytest.fixture(scope="module")
def long_lived() -> Iterator[dict[str, AbstractCluster]]:
    """Clusters that take seconds to start: several tests use the same, one after the other."""
    made: dict[str, AbstractCluster] = {}
    yield made
    for cluster in made.values():
        cluster.cleanup()


@pytest.fixture(params=[*CONFIGURATIONS, *DASK_MODES])
def cluster(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    long_lived: dict[str, AbstractCluster],
) -> Iterator[AbstractCluster]:
    name = request.param
    if name in CONFIGURATIONS:
        made = create_cluster(check_configuration(CONFIGURATIONS[name]), tmp_path)
        yield made
        made.cleanup()
        return
    if name not in long_lived:
        conf = dask_configuration(name, request)
        long_lived[name] = create_cluster(check_configuration(conf), tmp_path)
    yield long_lived[name]


def test_a_task_receives_the_values_of_others_by_position_and_by_name(
    cluster: AbstractCluster,
) -> None:
    one = cluster.create_task(add)(1, 0)
    three = cluster.create_task(total)(values=[one, 2])
    assert compute(cluster, [cluster.create_task(add)(one, three)]) == [4]


def test_values_are_found_in_lists_tuples_dictionaries_and_cars_datasets(
    cluster: AbstractCluster,
) -> None:
    one, two = cluster.create_task(add)(1), cluster.create_task(add)(2)
    grid = CarsDataset("dict")
    grid.create_grid(2, 1, 1, 1)
    grid[0, 0], grid[0, 1] = one, None
    nested = [one, (two, [{"deep": one}])]
    assert compute(cluster, [cluster.create_task(total)(nested)]) == [4]
    grid[0, 1] = two
    assert compute(cluster, [cluster.create_task(total)(grid)]) == [3]


def test_a_task_with_several_outputs_gives_as_many(cluster: AbstractCluster) -> None:
    small, large = cluster.create_task(halves, nout=2)(7)
    assert compute(cluster, [large, cluster.create_task(add)(small, large)]) == [4, 7]


def test_changing_an_argument_changes_it_for_nobody_else_in_another_process(
    cluster: AbstractCluster,
) -> None:
    base = cluster.create_task(zeros)(10_000)
    ones = cluster.create_task(fill)(base, 1)
    assert compute(cluster, [cluster.create_task(np.sum)(ones)]) == [10_000]


def test_none_is_a_result_like_any_other(cluster: AbstractCluster) -> None:
    none = cluster.create_task(nothing)()
    assert compute(cluster, [none, cluster.create_task(nothing)(none)]) == [None, None]


def test_scattered_data_arrives_as_itself(cluster: AbstractCluster) -> None:
    handle = cluster.scatter(CarsDict({"offsets": np.arange(5000)}))
    found = compute(cluster, [cluster.create_task(sizes)(handle, data=handle)])
    assert found == [10_000]


def test_futures_are_given_in_the_order_of_their_tasks(cluster: AbstractCluster) -> None:
    delayed = [cluster.create_task(add)(number) for number in range(30)]
    futures = cluster.start_tasks(delayed)
    assert [future.delayed for future in futures] == delayed
    for _ in cluster.future_iterator(futures):
        pass
    assert [future.result() for future in futures] == list(range(30))


def test_results_of_two_starts_are_taken_in_any_order(cluster: AbstractCluster) -> None:
    shared = cluster.create_task(add)(1)
    first = cluster.start_tasks([cluster.create_task(add)(shared, n) for n in range(20)])
    second = cluster.start_tasks([cluster.create_task(add)(shared, n) for n in range(20, 40)])
    assert sorted(f.result() for f in cluster.future_iterator(second)) == list(range(21, 41))
    assert sorted(f.result() for f in cluster.future_iterator(first)) == list(range(1, 21))


def test_futures_may_be_taken_one_by_one_in_any_order(cluster: AbstractCluster) -> None:
    futures = cluster.start_tasks([cluster.create_task(add)(number) for number in range(50)])
    for rank in (49, 0, 30):
        assert [f.result() for f in cluster.future_iterator([futures[rank]])] == [rank]


def test_a_wrong_number_of_outputs_is_refused(cluster: AbstractCluster) -> None:
    for nout in (0, -1, True, "two"):
        with pytest.raises(ConfigurationError, match=r"nout: .* given, a whole number"):
            cluster.create_task(add, nout=nout)  # type: ignore[arg-type]


def test_cleaning_up_twice_is_harmless_and_leaves_no_file(
    cluster: AbstractCluster, tmp_path: Path, long_lived: dict[str, AbstractCluster]
) -> None:
    compute(cluster, [cluster.create_task(zeros)(10_000)])
    cluster.cleanup()
    cluster.cleanup()
    for name in [name for name, kept in long_lived.items() if kept is cluster]:
        del long_lived[name]
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in left if path.parent.name != "workers_log"]


@pytest.mark.parametrize(
    "conf",
    [
        {"mode": "sequential"},
        {"mode": "multiprocessing"},
        {"mode": "local_dask"},
        {"mode": "slurm_dask", "account": "observatory"},
    ],
    ids=lambda conf: conf["mode"],
)
def test_a_cluster_that_is_not_launched_declares_and_computes_nothing(conf: dict[str, Any]) -> None:
    cluster = create_cluster(check_configuration(conf), None, launch_worker=False)
    delayed = cluster.create_task(pytest.fail)("it was computed")
    with pytest.raises(ClusterError, match="launch_worker=False"):
        cluster.start_tasks([delayed])
