"""The local engine under random kills of its workers: every result comes, and is right."""

import contextlib
import random
from pathlib import Path
from typing import Any

import psutil
import pytest

from batuta.cluster import WorkerLostError, check_configuration, create_cluster
from tests.cluster.functions import add
from tests.support.forked import forked_workers

TASKS = 150
TASKS_OF_RENEWED_WORKERS = 50
"""As many workers: each runs one."""


@pytest.mark.parametrize("max_tasks_per_worker", [1, 3, 1000])
@pytest.mark.parametrize(("factorize_tasks", "seed"), [(True, 1), (False, 2)])
def test_whatever_workers_are_killed_all_is_computed(
    tmp_path: Path, max_tasks_per_worker: int, factorize_tasks: bool, seed: int
) -> None:
    conf = {
        "mode": "multiprocessing",
        "max_tasks_per_worker": max_tasks_per_worker,
        "factorize_tasks": factorize_tasks,
    }
    tasks = TASKS_OF_RENEWED_WORKERS if max_tasks_per_worker == 1 else TASKS
    check_amid_kills(conf, tmp_path, Killer(seed, every=7), tasks)
    assert not list(tmp_path.rglob("batuta-*"))


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_workers_of_dask_are_killed_all_is_computed(tmp_path: Path, seed: int) -> None:
    check_amid_kills({"mode": "local_dask"}, tmp_path, Killer(seed, every=25), TASKS)


def check_amid_kills(conf: dict[str, Any], out_dir: Path, killer: "Killer", tasks: int) -> None:
    cluster: Any = create_cluster(check_configuration(conf), out_dir)
    try:
        delayed, expected = declared(cluster, killer.choices, tasks)
        found: dict[int, int] = {}
        while missing := [rank for rank in range(tasks) if rank not in found]:
            found |= computed_amid_kills(cluster, delayed, missing, killer)
        assert [found[rank] for rank in range(tasks)] == expected
        assert killer.killed > 1
    finally:
        cluster.cleanup()


def declared(cluster: Any, choices: random.Random, tasks: int) -> tuple[list[Any], list[int]]:
    """Declare tasks that depend on one another at random; give them with what they come to."""
    delayed: list[Any] = []
    expected: list[int] = []
    for rank in range(tasks):
        needed = choices.sample(range(rank), min(rank, choices.choice([0, 1, 1, 2])))
        delayed.append(cluster.create_task(add)(rank, *(delayed[each] for each in needed)))
        expected.append(rank + sum(expected[each] for each in needed))
    return delayed, expected


def computed_amid_kills(
    cluster: Any, delayed: list[Any], missing: list[int], killer: "Killer"
) -> dict[int, int]:
    """Compute, killing a worker every few results; give what came all the same."""
    ranks = {id(delayed[rank]): rank for rank in missing}
    found: dict[int, int] = {}
    futures = cluster.start_tasks([delayed[rank] for rank in missing])
    for count, future in enumerate(cluster.as_completed(futures)):
        try:
            found[ranks[id(future.delayed)]] = future.result()
        except Exception as exc:  # noqa: BLE001 - looked at on the next line
            assert isinstance(exc.__cause__, WorkerLostError)  # noqa: PT017
        killer.maybe_kill(count)
    return found


class Killer:
    """Kills a worker every few results."""

    killed = 0

    def __init__(self, seed: int, every: int) -> None:
        self.choices = random.Random(seed)  # noqa: S311 - a script for the test
        self._every = every
        self._due = False

    def maybe_kill(self, count: int) -> None:
        # Where none is there just now, all being renewed, the next result has one killed.
        self._due |= count % self._every == 0
        if self._due and (workers := forked_workers()):
            self._due = False
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended by itself
                self.choices.choice(workers).kill()
                self.killed += 1
