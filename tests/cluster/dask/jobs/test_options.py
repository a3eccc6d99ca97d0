"""The script that is submitted, and where workers run."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import compute
from tests.cluster.dask.batch_jobs import PBS, SLURM, tiles
from tests.cluster.dask.conftest import MakeCluster
from tests.cluster.dask.gated import Gate
from tools.slurm import LocalSlurm

ASKED: dict[str, Any] = {
    "nb_workers": 2,
    "processes_per_job": 2,
    "cores_per_job": 4,
    "walltime": "00:10:00",
    "job_script_prologue": ["export MOON=full"],
    "worker_extra_args": ["--resources MOON=1"],
}

DIRECTIVES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "slurm": (
        {**SLURM, "qos": "fast,night", "partition": "short", "job_extra_directives": ["--nice=7"]},
        [
            "#SBATCH -p short",
            "#SBATCH -A observatory",
            "#SBATCH -n 1",
            "#SBATCH --cpus-per-task=4",
            "#SBATCH --mem=954M",
            "#SBATCH -t 00:10:00",
            "#SBATCH --no-requeue",
            "#SBATCH --qos=fast,night",
            "#SBATCH --nice=7",
        ],
    ),
    "pbs": (
        {**PBS, "account": "survey", "queue": "short", "job_extra_directives": ["-m n"]},
        [
            "#PBS -q short",
            "#PBS -A survey",
            "#PBS -l select=1:ncpus=4:mem=954MB",
            "#PBS -l walltime=00:10:00",
            "#PBS -r n",
            "#PBS -m n",
        ],
    ),
}


@pytest.mark.parametrize("system", DIRECTIVES)
def test_a_batch_job_requests_what_the_configuration_says_and_runs_where_the_program_does(
    slurm: LocalSlurm,
    make_batch_cluster: MakeCluster,
    gate: Gate,
    here: Path,
    tmp_path: Path,
    system: str,
) -> None:
    keys, directives = DIRECTIVES[system]
    cluster = make_batch_cluster(**keys, **ASKED)
    lines = _script(slurm, cluster, gate)
    check_where_workers_run(cluster, here, tmp_path)
    assert _in_order(directives, lines)
    assert _in_order([f"export OMP_NUM_THREADS={2}", "export MOON=full"], lines)
    command = lines[-1]
    assert command.startswith(f"{sys.executable} -m distributed.cli.dask_worker tls://")
    assert "--nworkers 2" in command
    assert "--nthreads 1 --memory-limit 500000000 --no-dashboard --lifetime 540s" in command
    assert "--resources MOON=1" in command


def _script(slurm: LocalSlurm, cluster: Any, gate: Gate) -> list[str]:
    """Compute a tile; return the lines of the script of the batch job where it was computed."""
    compute(cluster, tiles(cluster, gate.folder, 1))
    (start,) = gate.starts()
    written = slurm.queue.run("scontrol", "write", "batch_script", start.job, "-")
    return [line for line in written.splitlines() if line]


def _in_order(expected: list[str], lines: list[str]) -> bool:
    return [line for line in lines if line in expected] == expected


@pytest.fixture
def here(slurm: LocalSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: its name has a space."""
    here = tmp_path / "my program"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


def check_where_workers_run(cluster: Any, here: Path, out_dir: Path) -> None:
    """Check that workers run in the folder of the program, and write to that of logs."""
    assert compute(cluster, [cluster.create_task(os.getcwd)()]) == [str(here)]
    assert not list(here.iterdir())
    assert "Start worker at" in "".join(
        path.read_text() for path in (out_dir / "workers_log").iterdir()
    )


def test_plain_tcp_is_used_on_request_with_a_warning(
    slurm: LocalSlurm, make_batch_cluster: MakeCluster, gate: Gate
) -> None:
    with pytest.warns(
        UserWarning, match="tls: false: anyone who reaches the network of the workers"
    ):
        cluster = make_batch_cluster(nb_workers=1, tls=False)
    script = _script(slurm, cluster, gate)
    assert " tcp://" in script[-1]
    assert "tls" not in script[-1]


@pytest.mark.parametrize("where", ["target()", "t = Thread(target=target); t.start(); t.join()"])
def test_ctrl_c_interrupts_a_program_that_has_imported_dask_jobqueue(where: str) -> None:
    program = (
        "import os, signal; from threading import Thread\n"
        "def target():\n    import batuta.cluster.dask.jobs.deployment as jobs; jobs.SLURMCluster\n"
        f"{where}\nos.kill(os.getpid(), signal.SIGINT)\nprint('it goes on')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in done.stderr
    assert not done.stdout
