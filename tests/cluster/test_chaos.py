"""Workers killed again and again: every result comes, and is right."""

import contextlib
import random
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psutil
import pytest

from batuta.cluster import WorkerLostError, check_configuration, create_cluster
from tests.cluster.functions import add

TASKS = 150


@pytest.mark.parametrize("max_tasks_per_worker", [1, 3, 1000])
@pytest.mark.parametrize("factorize_tasks", [True, False])
@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_workers_are_killed_all_is_computed(
    tmp_path: Path, max_tasks_per_worker: int, factorize_tasks: bool, seed: int
) -> None:
    conf = {
        "mode": "multiprocessing",
        "max_tasks_per_worker": max_tasks_per_worker,
        "factorize_tasks": factorize_tasks,
    }
    choices = random.Random(seed)  # noqa: S311 - a script for the test
    cluster: Any = create_cluster(check_configuration(conf), tmp_path)
    try:
        delayed, expected = declared(cluster, choices)
        found: dict[int, int] = {}
        while missing := [rank for rank in range(TASKS) if rank not in found]:
            found |= computed_amid_kills(cluster, delayed, missing, choices)
        assert [found[rank] for rank in range(TASKS)] == expected
    finally:
        cluster.cleanup()
    assert not list(tmp_path.rglob("batuta-*"))


def declared(cluster: Any, choices: random.Random) -> tuple[list[Any], list[int]]:
    """Declare tasks that depend on one another at random; give them with what they come to."""
    delayed: list[Any] = []
    expected: list[int] = []
    for rank in range(TASKS):
        needed = choices.sample(range(rank), min(rank, choices.choice([0, 1, 1, 2])))
        delayed.append(cluster.create_task(add)(rank, *(delayed[each] for each in needed)))
        expected.append(rank + sum(expected[each] for each in needed))
    return delayed, expected


def computed_amid_kills(
    cluster: Any, delayed: list[Any], missing: list[int], choices: random.Random
) -> dict[int, int]:
    """Compute, killing a worker every few results; give what came all the same."""
    ranks = {id(delayed[rank]): rank for rank in missing}
    found: dict[int, int] = {}
    futures = cluster.start_tasks([delayed[rank] for rank in missing])
    for count, future in enumerate(cluster.future_iterator(futures)):
        try:
            found[ranks[id(future.delayed)]] = future.result()
        except Exception as error:  # noqa: BLE001 - looked at on the next line
            assert isinstance(error.__cause__, WorkerLostError)  # noqa: PT017
        if count % 7 == 0:
            kill_a_worker(choices)
    return found


def kill_a_worker(choices: random.Random) -> None:
    server: Any = forkserver._forkserver
    workers = psutil.Process(server._forkserver_pid).children()
    if workers:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended by itself
            choices.choice(workers).kill()
