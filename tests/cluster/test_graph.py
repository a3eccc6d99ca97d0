"""The plan: which jobs, in which order, for what is wanted."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batuta.cluster import AbstractCluster, check_configuration, create_cluster
from batuta.cluster.graph import make_plan, walk
from batuta.cluster.local.cluster import MultiprocessingCluster
from batuta.cluster.tasks import Delayed, declare
from tests.cluster.conftest import compute
from tests.cluster.functions import add, count_call, halves

Dag = list[list[int]]


@st.composite
def dags(draw: st.DrawFn) -> Dag:
    """For each task, the tasks that it depends on, all declared before it."""
    size = draw(st.integers(1, 14))
    return [
        draw(st.lists(st.integers(0, rank - 1), max_size=3)) if rank else [] for rank in range(size)
    ]


def plainly(dag: Dag, rank: int) -> int:
    return rank + sum(plainly(dag, each) for each in dag[rank])


def declared(dag: Dag, cluster: AbstractCluster, folder: str) -> list[Any]:
    delayed: list[Any] = []
    for rank, dependencies in enumerate(dag):
        values = [delayed[each] for each in dependencies]
        delayed.append(cluster.create_task(count_call)(folder, str(rank), rank, *values))
    return delayed


IN_MEMORY = {
    "mode": "multiprocessing",
    "max_tasks_per_worker": 10_000,
    "dump_to_disk": False,
}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "fused": {**IN_MEMORY, "factorize_tasks": True},
    "unfused": {**IN_MEMORY, "factorize_tasks": False},
    "local_dask": {"mode": "local_dask"},
}


@pytest.fixture(scope="module", params=CONFIGURATIONS)
def shared_cluster(request: pytest.FixtureRequest) -> Iterator[AbstractCluster]:
    cluster = create_cluster(check_configuration(CONFIGURATIONS[request.param]), None)
    yield cluster
    cluster.cleanup()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(dag=dags(), data=st.data())
def test_any_graph_computes_what_plain_calls_do_each_task_once(
    shared_cluster: AbstractCluster, dag: Dag, data: st.DataObject
) -> None:
    wanted = data.draw(st.lists(st.integers(0, len(dag) - 1), min_size=1, unique=True))
    folder = tempfile.mkdtemp()
    try:
        delayed = declared(dag, shared_cluster, folder)
        found = compute(shared_cluster, [delayed[rank] for rank in wanted])
        assert found == [plainly(dag, rank) for rank in wanted]
        calls = {int(path.name): path.read_text() for path in Path(folder).iterdir()}
        barrier(shared_cluster)
        assert calls == dict.fromkeys(needed(dag, wanted), "x")
    finally:
        shutil.rmtree(folder)
    assert not any(each.stored for each in delayed)


def needed(dag: Dag, wanted: list[int]) -> set[int]:
    found = set(wanted)
    for rank in sorted(found, reverse=True):
        found |= needed(dag, dag[rank])
    return found


def test_no_result_is_left_when_all_were_taken(shared_cluster: Any) -> None:
    if not isinstance(shared_cluster, MultiprocessingCluster):
        pytest.skip("dask's workers hold results: see tests/cluster/dask")
    assert shared_cluster._stores is not None
    folder = shared_cluster._stores.results.folder
    barrier(shared_cluster)
    before = set(folder.iterdir())  # the heartbeats of the workers
    compute(shared_cluster, [shared_cluster.create_task(bytes)(100_000) for _ in range(20)])
    barrier(shared_cluster)
    assert set(folder.iterdir()) == before


def barrier(cluster: AbstractCluster) -> None:
    """Return when all that was taken before is freed: it is done before what is asked next."""
    compute(cluster, [cluster.create_task(add)(1)])


@given(dag=dags(), fuse=st.booleans(), data=st.data())
def test_a_plan_holds_each_needed_task_once_after_all_it_needs(
    dag: Dag, fuse: bool, data: st.DataObject
) -> None:
    delayed: list[Any] = []
    for rank, dependencies in enumerate(dag):
        delayed.append(declare(add, (rank, [delayed[each] for each in dependencies]), {}, 1))
    wanted = data.draw(st.lists(st.sampled_from(delayed), min_size=1, unique=True))
    plan = make_plan(wanted, fuse=fuse)
    steps = [task for job in plan.jobs for task in job.steps]
    ranks = {task: rank for rank, each in enumerate(delayed) for task in [each.task]}
    assert Counter(ranks[task] for task in steps) == Counter(
        needed(dag, [delayed.index(each) for each in wanted])
    )
    assert [job.order for job in plan.jobs] == sorted(job.order for job in plan.jobs)
    edges = Counter(consumer for job in plan.jobs for consumer in job.consumers)
    assert all(edges[job] == job.waiting for job in plan.jobs)


def test_a_chain_runs_as_one_job_and_a_shared_result_does_not() -> None:
    first = one(add, 1)
    second = one(add, first)
    third = one(add, second)
    assert [len(job.steps) for job in make_plan([third], fuse=True).jobs] == [3]
    assert [len(job.steps) for job in make_plan([third], fuse=False).jobs] == [1, 1, 1]
    other = one(add, first)
    assert [len(job.steps) for job in make_plan([third, other], fuse=True).jobs] == [1, 2, 1]


def test_a_result_that_is_wanted_itself_ends_its_job() -> None:
    first = one(add, 1)
    second = one(add, first)
    assert [len(job.steps) for job in make_plan([second, first], fuse=True).jobs] == [1, 1]


def test_two_outputs_used_by_one_task_are_one_chain() -> None:
    pair = declare(halves, (7,), {}, 2)
    assert isinstance(pair, tuple)
    assert [len(job.steps) for job in make_plan([one(add, *pair)], fuse=True).jobs] == [2]


def test_chains_are_ranked_one_after_the_other() -> None:
    chains = [one(add, one(add, one(halves, n))) for n in range(5)]
    in_order = [last.task.args[0].task.args[0].task for last in chains]
    assert [task for task in walk(chains) if task.function is halves] == in_order
    assert [task.name for task in walk(chains)] == ["halves", "add", "add"] * 5


def test_a_chain_of_a_hundred_thousand_tasks_is_planned() -> None:
    last = one(add, 0)
    for _ in range(100_000):
        last = one(add, last)
    assert len(walk([last])) == 100_001


def one(function: Any, *args: Any) -> Delayed:
    delayed = declare(function, args, {}, 1)
    assert isinstance(delayed, Delayed)
    return delayed
