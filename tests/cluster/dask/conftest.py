from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from batuta.cluster import check_configuration, create_cluster
from batuta.cluster.dask.jobs import scaler
from tests.cluster.dask.gated import Gate
from tests.cluster.dask.slurm_jobs import SLURM, nothing_left, of_batuta
from tools.slurm import LocalSlurm

MakeCluster = Callable[..., Any]


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Where the tasks of a test wait."""
    return Gate(tmp_path)


@pytest.fixture
def aside(gate: Gate) -> Iterator[ThreadPoolExecutor]:
    """Computes while the test does something else; a test that fails leaves nothing waiting."""
    with ThreadPoolExecutor() as pool:
        yield pool
        gate.open()


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the batch system asked often."""
    monkeypatch.setattr(scaler, "LOOK_S", 0.5)


@pytest.fixture
def make_jobs_cluster(slurm: LocalSlurm, tmp_path: Path, often: None) -> Iterator[MakeCluster]:
    """Make clusters of jobs from some of their keys; once cleaned up, they leave nothing."""
    made: list[Any] = []

    def make(**keys: Any) -> Any:
        conf = keys if "mode" in keys else {**SLURM, **keys}
        made.append(create_cluster(check_configuration(conf), tmp_path))
        return made[-1]

    yield make
    for cluster in made:
        cluster.cleanup()
    assert set(of_batuta(slurm)) <= {"COMPLETING"}
    assert nothing_left(slurm, tmp_path)
