from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from batuta.cluster import check_configuration, create_cluster
from batuta.cluster.dask.jobs import scaler
from tests.cluster.dask.batch_jobs import SLURM, batch_job_states, wait_for_cleanup
from tests.cluster.dask.gated import Gate
from tools.slurm import LocalSlurm

MakeCluster = Callable[..., Any]


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """The gate where the tasks of a test wait."""
    return Gate(tmp_path)


@pytest.fixture
def executor(gate: Gate) -> Iterator[ThreadPoolExecutor]:
    """Threads to compute in while the test goes on; the gate opens in the end, even if it fails."""
    with ThreadPoolExecutor() as pool:
        yield pool
        gate.open()


@pytest.fixture
def frequent_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll the batch system ten times as often."""
    monkeypatch.setattr(scaler, "POLL_S", 0.5)


@pytest.fixture
def make_batch_cluster(
    slurm: LocalSlurm, tmp_path: Path, frequent_polls: None
) -> Iterator[MakeCluster]:
    """Make clusters in batch jobs from some of their keys; check that they leave nothing behind."""
    made: list[Any] = []

    def make(**keys: Any) -> Any:
        conf = keys if "mode" in keys else {**SLURM, **keys}
        made.append(create_cluster(check_configuration(conf), tmp_path))
        return made[-1]

    yield make
    for cluster in made:
        cluster.cleanup()
    assert set(batch_job_states(slurm)) <= {"COMPLETING"}
    assert wait_for_cleanup(slurm, tmp_path)
