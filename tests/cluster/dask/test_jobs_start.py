"""Jobs that cannot start: one line says why, in the words of the batch system or of the job."""

import re
from pathlib import Path
from typing import Any

import pytest

from batuta.cluster import ClusterError, TaskFailedError, check_configuration, create_cluster
from batuta.errors import ConfigurationError
from tests.cluster.conftest import compute
from tests.cluster.dask.conftest import MakeCluster
from tests.cluster.dask.gated import Gate
from tests.cluster.dask.slurm_jobs import PBS, SLURM, tiles

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "partition": ({**SLURM, "partition": "moon"}, "invalid partition specified: moon"),
    "directive": (
        {**SLURM, "job_extra_directives": ["--moonlight"]},
        "sbatch: unrecognized option '--moonlight'",
    ),
    "memory": ({**SLURM, "max_ram_per_worker": 1e6}, "Memory specification can not be satisfied"),
    "queue": ({**PBS, "queue": "moon"}, "invalid partition specified: moon"),
}

NEVER: dict[str, tuple[dict[str, Any], str]] = {
    "walltime": ({"partition": "short"}, "PartitionTimeLimit"),
    "cores": ({"cores_per_job": 99}, "PartitionConfig"),
}

FALSE_STARTS: dict[str, tuple[dict[str, Any], str]] = {
    "python": ({"python": "/opt/moon/python"}, "/opt/moon/python: No such file or directory"),
    "prologue": (
        {"job_script_prologue": ["echo no module named moon >&2", "exit 1"]},
        "ends with: no module named moon",
    ),
    "worker-option": ({"worker_extra_args": ["--moon"]}, "No such option '--moon'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_batch_system_refuses_is_told_in_its_words(
    make_jobs_cluster: MakeCluster, gate: Gate, what: str
) -> None:
    conf, words = REFUSED[what]
    told = _failure(make_jobs_cluster(**conf), gate)
    assert told.startswith("jobs cannot be submitted: ")
    assert words in told
    assert "\n" not in told


@pytest.mark.parametrize("what", NEVER)
def test_jobs_that_can_never_start_are_no_wait(
    make_jobs_cluster: MakeCluster, gate: Gate, what: str
) -> None:
    keys, reason = NEVER[what]
    told = _failure(make_jobs_cluster(**SLURM, **keys), gate)
    assert told == f"jobs cannot start: 2 jobs in the queue ({reason})"


@pytest.mark.parametrize("what", FALSE_STARTS)
def test_what_jobs_wrote_before_they_ended_is_told(
    make_jobs_cluster: MakeCluster, gate: Gate, what: str
) -> None:
    keys, words = FALSE_STARTS[what]
    told = _failure(make_jobs_cluster(**SLURM, **keys), gate)
    assert re.fullmatch(r"workers cannot start: job \d+ was over \(FAILED\) before .*", told)
    assert words in told


def _failure(cluster: Any, gate: Gate) -> str:
    """Give the reason why a tile is not computed."""
    (error,) = compute(cluster, tiles(cluster, gate.folder, 1))
    assert isinstance(error, ClusterError | TaskFailedError)
    cause = error.__cause__ if isinstance(error, TaskFailedError) else error
    assert isinstance(cause, ClusterError)
    return str(cause)


@pytest.mark.parametrize(("conf", "command"), [(SLURM, "sbatch"), (PBS, "qsub")])
def test_a_machine_that_jobs_cannot_be_submitted_from_is_told(
    conf: dict[str, Any], command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    mode = conf["mode"]
    with pytest.raises(
        ClusterError, match=f"^{command} is not there: {mode} runs where jobs can be submitted"
    ):
        create_cluster(check_configuration(conf), tmp_path)


def test_a_folder_that_a_job_script_cannot_hold_is_refused(
    make_jobs_cluster: MakeCluster, tmp_path: Path
) -> None:
    folder = tmp_path / "my results"
    folder.mkdir()
    with pytest.raises(ConfigurationError, match=r"^out_dir: '.*my results' given, a path without"):
        create_cluster(check_configuration(SLURM), folder)
    assert make_jobs_cluster is not None
