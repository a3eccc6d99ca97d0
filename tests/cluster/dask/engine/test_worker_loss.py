"""Of tasks that share a batch job, only those fail that kill their worker or exceed its memory."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batuta.cluster import (
    TaskFailedError,
    WorkerLostError,
    WorkerMemoryError,
    check_configuration,
    create_cluster,
)
from tests.cluster.conftest import compute
from tests.cluster.dask.batch_jobs import SLURM, batch_job_states
from tests.cluster.functions import add, die, hold
from tools.slurm import LocalSlurm


@pytest.fixture(scope="module")
def cluster(
    slurm_environment: LocalSlurm, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    conf = check_configuration({**SLURM, "nb_workers": 2, "processes_per_job": 2})
    made: Any = create_cluster(conf, tmp_path_factory.mktemp("tasks"))
    yield made
    assert batch_job_states(slurm_environment) == ["RUNNING"]
    made.cleanup()


def test_only_the_task_fails_that_kills_its_worker_each_time(cluster: Any) -> None:
    poison = cluster.create_task(die)()
    others = [cluster.create_task(add)(number) for number in range(20)]
    error, *found = compute(cluster, [poison, *others])
    assert found == list(range(20))
    assert isinstance(error, TaskFailedError)
    assert isinstance(error.__cause__, WorkerLostError)
    assert error.function == "die"


def test_a_task_that_exceeds_the_memory_of_its_worker_fails_and_says_how_much_it_held(
    cluster: Any, tmp_path: Path
) -> None:
    greedy = cluster.create_task(hold)(str(tmp_path), 2000)
    error, found = compute(cluster, [greedy, cluster.create_task(add)(1)])
    assert found == 1
    assert isinstance(error.__cause__, WorkerMemoryError)
    assert "of 500 MB (max_ram_per_worker)" in str(error)
    assert os.environ["SLURM_CONF"]
