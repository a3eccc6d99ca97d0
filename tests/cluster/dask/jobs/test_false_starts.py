"""Batch jobs that cannot start: one line quotes why, from the batch system or their output."""

import re
from pathlib import Path
from typing import Any

import pytest

from batuta.cluster import ClusterError, TaskFailedError, check_configuration, create_cluster
from batuta.errors import ConfigurationError
from tests.cluster.conftest import compute
from tests.cluster.dask.batch_jobs import PBS, SLURM, tiles
from tests.cluster.dask.conftest import MakeCluster
from tests.cluster.dask.gated import Gate

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
def test_the_reason_of_a_refused_submission_is_quoted(
    make_batch_cluster: MakeCluster, gate: Gate, what: str
) -> None:
    conf, words = REFUSED[what]
    message = _failure(make_batch_cluster(**conf), gate)
    assert message.startswith("batch jobs cannot be submitted: ")
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize("what", NEVER)
def test_batch_jobs_that_can_never_start_are_not_waited_for(
    make_batch_cluster: MakeCluster, gate: Gate, what: str
) -> None:
    keys, reason = NEVER[what]
    message = _failure(make_batch_cluster(**SLURM, **keys), gate)
    assert message == f"batch jobs cannot start: 2 jobs in the queue ({reason})"


@pytest.mark.parametrize("what", FALSE_STARTS)
def test_the_last_output_of_batch_jobs_that_ended_too_early_is_quoted(
    make_batch_cluster: MakeCluster, gate: Gate, what: str
) -> None:
    keys, words = FALSE_STARTS[what]
    message = _failure(make_batch_cluster(**SLURM, **keys), gate)
    assert re.fullmatch(r"workers cannot start: batch job \d+ ended \(FAILED\) before .*", message)
    assert words in message


def _failure(cluster: Any, gate: Gate) -> str:
    """Return the reason why a tile is not computed."""
    (error,) = compute(cluster, tiles(cluster, gate.folder, 1))
    assert isinstance(error, ClusterError | TaskFailedError)
    cause = error.__cause__ if isinstance(error, TaskFailedError) else error
    assert isinstance(cause, ClusterError)
    return str(cause)


@pytest.mark.parametrize(("conf", "command"), [(SLURM, "sbatch"), (PBS, "qsub")])
def test_a_machine_without_the_commands_of_the_batch_system_is_reported(
    conf: dict[str, Any], command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    mode = conf["mode"]
    with pytest.raises(
        ClusterError, match=f"^{command}: command not found; {mode} needs a machine from which"
    ):
        create_cluster(check_configuration(conf), tmp_path)


def test_a_folder_whose_path_job_scripts_cannot_hold_is_refused(
    make_batch_cluster: MakeCluster, tmp_path: Path
) -> None:
    folder = tmp_path / "my results"
    folder.mkdir()
    with pytest.raises(ConfigurationError, match=r"^out_dir: '.*my results' given, a path without"):
        create_cluster(check_configuration(SLURM), folder)
    assert make_batch_cluster is not None
