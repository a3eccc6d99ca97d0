"""What every mode does in the same way."""

import copy
import functools
import logging
import operator
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from tqdm import tqdm

from batuta.cluster import (
    AbstractCluster,
    ClusterError,
    TaskFailedError,
    UnpicklableError,
    check_configuration,
    create_cluster,
)
from batuta.cluster.dask.existing import ExistingDaskCluster
from batuta.cluster.dask.jobs.deployment import PbsDaskCluster, SlurmDaskCluster
from batuta.cluster.dask.local import LocalDaskCluster
from batuta.cluster.local.cluster import MultiprocessingCluster
from batuta.cluster.sequential import SequentialCluster
from batuta.datasets import CarsDataset, CarsDict
from batuta.errors import ConfigurationError
from batuta.orchestrator import flatten_object
from tests.cluster import odd_errors
from tests.cluster.conftest import compute
from tests.cluster.functions import (
    Offset,
    add,
    fail,
    fill,
    halves,
    nothing,
    sizes,
    sum_in_cluster,
    sum_in_pool,
    total,
    zeros,
)
from tests.cluster.odd_errors import raise_oddly
from tests.support.dask_clusters import DASK_MODES, dask_configuration
from tests.support.waiting import eventually_sync

LOG = logging.getLogger(__name__)

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "sequential": {"mode": "sequential"},
    "sequential-resume": {"mode": "sequential", "resume": True},
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


def test_an_object_without_a_hash_may_be_called(cluster: AbstractCluster) -> None:
    task = cluster.create_task(Offset(3))
    assert compute(cluster, [task(1), task(2)]) == [4, 5]


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
    for _ in cluster.as_completed(futures):
        pass
    assert [future.result() for future in futures] == list(range(30))


def test_results_of_two_starts_are_taken_in_any_order(cluster: AbstractCluster) -> None:
    shared = cluster.create_task(add)(1)
    first = cluster.start_tasks([cluster.create_task(add)(shared, n) for n in range(20)])
    second = cluster.start_tasks([cluster.create_task(add)(shared, n) for n in range(20, 40)])
    assert sorted(cluster.future_iterator(second)) == list(range(21, 41))
    assert sorted(cluster.future_iterator(first)) == list(range(1, 21))


def test_futures_may_be_taken_one_by_one_in_any_order(cluster: AbstractCluster) -> None:
    futures = cluster.start_tasks([cluster.create_task(add)(number) for number in range(50)])
    for rank in (49, 0, 30):
        assert list(cluster.future_iterator([futures[rank]])) == [rank]


# Programs written for the cluster of CARS


def saved_on_exit(cluster: AbstractCluster, cars_ds_list: list[CarsDataset]) -> list[Any]:
    """Compute and "save" tiles by the loop of `Orchestrator.__exit__` in the manual of CARS."""
    saved = []
    delayed_objects = flatten_object(cars_ds_list, cluster.delayed_type)
    future_objects = cluster.start_tasks(delayed_objects)
    with tqdm(total=len(future_objects), desc="Processing Futures ...", disable=True) as pbar:
        for future_obj in tqdm(cluster.future_iterator(future_objects), disable=True):
            pbar.update()
            if future_obj is not None:
                saved.append(future_obj)
            else:
                LOG.debug("None tile : not saved")
    return saved


def grid_of(tiles: list[Any]) -> CarsDataset:
    """Make a dataset of one row."""
    grid = CarsDataset("dict")
    grid.create_grid(len(tiles), 1, 1, 1)
    for col, tile in enumerate(tiles):
        grid[0, col] = tile
    return grid


def test_the_loop_of_cars_receives_the_values_of_two_outputs_chains_and_nested_arguments(
    cluster: AbstractCluster,
) -> None:
    small, large = cluster.create_task(halves, nout=2)(7)
    chained = cluster.create_task(add)(cluster.create_task(add)(small, 10), value_of(cluster, 20))
    nested = cluster.create_task(total)({"of": [small, (large, {"deep": chained})]})
    empty = cluster.create_task(nothing)(large)
    summed = cluster.create_task(add)(nested, 1000)
    saved = saved_on_exit(
        cluster, [grid_of([small, large]), grid_of([chained, None, empty]), grid_of([summed])]
    )
    assert sorted(saved) == [3, 4, 33, 1040]


def value_of(cluster: AbstractCluster, value: int) -> Any:
    return cluster.create_task(add)(value)


def test_values_are_iterated_over_none_included(cluster: AbstractCluster) -> None:
    delayed = [cluster.create_task(nothing)(), value_of(cluster, 1), cluster.create_task(nothing)()]
    values = list(cluster.future_iterator(cluster.start_tasks(delayed)))
    assert sorted(values, key=str) == [1, None, None]


def test_there_is_nothing_to_iterate_over_in_an_empty_list(cluster: AbstractCluster) -> None:
    futures = cluster.start_tasks([])
    assert list(cluster.future_iterator(futures)) == []
    assert list(cluster.as_completed(futures)) == []


def test_a_value_is_iterated_over_as_often_as_its_future_is_listed(
    cluster: AbstractCluster,
) -> None:
    one, two = cluster.start_tasks([value_of(cluster, 1), value_of(cluster, 2)])
    assert sorted(cluster.future_iterator([two, one, two])) == [1, 2, 2]
    twice = value_of(cluster, 3)
    assert list(cluster.future_iterator(cluster.start_tasks([twice, twice]))) == [3, 3]


def test_iterating_again_yields_the_values_that_are_still_to_come(
    cluster: AbstractCluster,
) -> None:
    futures = cluster.start_tasks([value_of(cluster, number) for number in range(20)])
    first = list(islice(cluster.future_iterator(futures), 5))
    rest = list(cluster.future_iterator(futures[::-1]))
    assert len(first) == 5
    assert sorted(first + rest) == list(range(20))
    assert list(cluster.future_iterator(futures)) == list(cluster.as_completed(futures)) == []


def test_two_iterations_over_the_same_futures_share_their_values(
    cluster: AbstractCluster,
) -> None:
    futures = cluster.start_tasks([value_of(cluster, number) for number in range(20)])
    one, other = cluster.future_iterator(futures), cluster.future_iterator(futures)
    shared = [value for pair in zip_longest(one, other) for value in pair if value is not None]
    assert sorted(shared) == list(range(20))


def test_a_value_that_was_handed_over_is_not_in_its_future_any_more(
    cluster: AbstractCluster,
) -> None:
    (future,) = cluster.start_tasks([value_of(cluster, 1)])
    assert list(cluster.future_iterator([future])) == [1]
    with pytest.raises(ClusterError, match="handed over by future_iterator"):
        future.result()


def test_a_value_is_freed_when_the_program_drops_it(cluster: AbstractCluster) -> None:
    if cluster.delayed_type is object:
        pytest.skip("a delayed object is the value itself: the program holds it")
    delayed = [cluster.create_task(zeros)(10_000 + number) for number in range(8)]
    futures = cluster.start_tasks(delayed)
    values: list[weakref.ref[Any]] = []
    for value in cluster.future_iterator(futures):
        values.append(weakref.ref(value))
        del value
        eventually_sync(lambda: values[-1]() is None)
    assert len(values) == len(futures)


def test_failures_are_raised_after_all_values_and_again_when_iterating_again(
    cluster: AbstractCluster,
) -> None:
    if cluster.delayed_type is object:
        with pytest.raises(ValueError, match="no light"):
            cluster.create_task(fail)("no light")
        return
    dark, late = cluster.create_task(fail)("no light"), cluster.create_task(fail)("no light")
    lost = cluster.create_task(fail)("no map")
    dependent = cluster.create_task(add)(dark, 1)
    tiles = [dark, value_of(cluster, 1), lost, dependent, late, value_of(cluster, 2)]
    futures = cluster.start_tasks(tiles)
    values: list[int] = []
    for _ in range(2):
        with pytest.raises(TaskFailedError) as raised:
            values.extend(cluster.future_iterator(futures))
        assert isinstance(raised.value.__cause__, ValueError)
        told = "\n".join([str(raised.value), *raised.value.__notes__])
        assert told.count("ValueError: no map") == 1
        assert told.count("ValueError: no light") in {1, 2}
        assert sum("also failed: " in note for note in raised.value.__notes__) == told.count("\n")
    assert sorted(values) == [1, 2]
    again = cluster.start_tasks([lost, value_of(cluster, 3)])
    with pytest.raises(TaskFailedError, match="no map"):
        values.extend(cluster.future_iterator(again))
    assert sorted(values) == [1, 2, 3]


def test_what_has_no_name_that_workers_can_import_goes_to_them_and_comes_back(
    cluster: AbstractCluster,
) -> None:
    offset = np.int64(3)

    @dataclass
    class Point:
        x: int

    def moved(point: Point) -> Point:
        return Point(int(point.x + offset))

    task = cluster.create_task
    nine, point, made = compute(
        cluster,
        [
            task(lambda value: value**2)(offset),
            task(moved)(Point(1)),
            task(functools.partial(operator.call, lambda: Point(0)))(),
        ],
    )
    assert (nine, point) == (9, Point(4))
    assert isinstance(made, Point)

    class OwnError(Exception):
        """Defined here."""

    def refuse() -> NoReturn:
        raise OwnError("mine")

    if cluster.delayed_type is object:
        return
    (error,) = compute(cluster, [task(refuse)()])
    assert isinstance(error.__cause__, OwnError)


def closure_over(value: Any) -> Any:
    def inner() -> Any:
        return value

    def outer() -> Any:
        return inner()

    return outer


def test_a_function_that_cannot_be_sent_is_refused_before_any_tile(
    cluster: AbstractCluster,
) -> None:
    if isinstance(cluster, SequentialCluster):
        return  # nothing is sent
    with Path(__file__).open(encoding="utf-8") as stream:
        kinds = {
            "a lock": threading.Lock(),
            "a generator": (each for each in "ab"),
            "an open file": stream,
        }
        for kind, value in kinds.items():
            with pytest.raises(ConfigurationError) as refused:
                cluster.create_task(closure_over(value))
            told = str(refused.value)
            assert told.startswith("func: closure_over.<locals>.inner cannot be sent to a worker: ")
            assert f"its variable 'value' is {kind} (TypeError: " in told
    (error,) = compute(cluster, [cluster.create_task(total)(values=(each for each in "ab"))])
    assert error.reason.startswith(
        "total cannot be sent to a worker: its argument 'values' is a generator"
    )


def test_what_a_task_raises_comes_as_it_is_with_the_traceback_of_its_function(
    cluster: AbstractCluster,
) -> None:
    if cluster.delayed_type is object:
        with pytest.raises(SystemExit, match="my own words"):
            cluster.create_task(raise_oddly)("exit")
        return
    # In this process, Ctrl-C is what raises it.
    in_worker = not isinstance(cluster, SequentialCluster)
    ways = [way for way in odd_errors.ERRORS if in_worker or way != "interrupt"]
    errors = compute(cluster, [cluster.create_task(raise_oddly)(way) for way in ways])
    for way, error in zip(ways, errors, strict=True):
        assert isinstance(error, TaskFailedError)
        assert (error.function, error.reason) == ("raise_oddly", odd_errors.REASONS[way])
        assert "in raise_oddly" in error.traceback
        assert "LookupError: before it" in error.traceback
        assert "execution.py" not in error.traceback.split("direct cause")[1]
        cause: Any = error.__cause__
        assert error.traceback in "".join(cause.__notes__)
        assert cause.__traceback__ is None
        assert copy.copy(error).traceback == error.traceback
        if way in odd_errors.KEPT:
            assert type(cause) is odd_errors.KEPT[way]
        elif in_worker:
            assert isinstance(cause, UnpicklableError)
            assert str(cause) == odd_errors.REASONS[way]


def test_a_task_may_use_a_pool_of_processes_or_a_cluster_of_its_own(
    cluster: AbstractCluster, tmp_path: Path
) -> None:
    pool = cluster.create_task(sum_in_pool)(1, -2)
    inner = cluster.create_task(sum_in_cluster)(str(tmp_path / "inner"), 1, 2)
    assert compute(cluster, [pool, inner]) == [3, 3]


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
