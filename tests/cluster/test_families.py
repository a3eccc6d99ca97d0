"""What tasks start ends with their worker, however that ends, in every mode that has workers.

Limits of time and memory, and a main process that is interrupted or killed: see
`tests/cluster/local/test_worker_pool.py` and `tests/orchestrator/test_interruption.py`.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from batuta.cluster import check_configuration, create_cluster
from batuta.cluster.dask.engine import worker_loss
from batuta.cluster.errors import WorkerLostError
from tests.cluster.conftest import compute
from tests.cluster.functions import start_programs, started_programs
from tests.support.dask_clusters import dask_configuration
from tests.support.waiting import eventually_sync

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "forkserver": {"mode": "multiprocessing"},
    "fork": {"mode": "multiprocessing", "mp_mode": "fork"},
    "spawn": {"mode": "multiprocessing", "mp_mode": "spawn"},
    "local_dask-spawn": {"mode": "local_dask", "mp_mode": "spawn", "nb_workers": 1},
}


MODES = [*CONFIGURATIONS, "local_dask", "dask", "slurm_dask"]
"""Batch jobs of PBS run the same command as those of Slurm."""


# Workers that are spawned import everything anew, four times here: slow on a busy machine.
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", MODES)
def test_what_tasks_start_ends_with_their_worker_however_it_ends(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = CONFIGURATIONS.get(name) or dask_configuration(name, request)
    monkeypatch.setattr(worker_loss, "MAX_DEATHS", 1)  # rather than three workers each time
    one = {} if name == "dask" else {"nb_workers": 1}
    cluster = create_cluster(check_configuration({**conf, **one}), tmp_path)
    start = cluster.create_task(start_programs)
    try:
        for how in ("exit", "kill", "kill supervisor"):
            path = tmp_path / how
            (error,) = compute(cluster, [start(str(path), how)])
            assert isinstance(error.__cause__, WorkerLostError)
            assert path.exists()
            eventually_sync(partial(_have_ended, path))
        kept = tmp_path / "kept"
        assert compute(cluster, [start(str(kept), "return")]) == [None]
        assert len(started_programs(kept)) == 3  # its worker lives on
    finally:
        cluster.cleanup()
    if name != "dask":  # its workers are not ours to end
        eventually_sync(partial(_have_ended, kept))


def _have_ended(path: Path) -> bool:
    return not started_programs(path)
