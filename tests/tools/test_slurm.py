"""The project's own Slurm really runs jobs, breaks as Slurm breaks, and leaves nothing."""

from pathlib import Path

from tools.slurm import LocalSlurm

LONG = "sleep 600"
ROOT = Path(__file__).parents[2]


def test_a_job_runs_with_the_account_and_partition_it_names(
    slurm: LocalSlurm, tmp_path: Path
) -> None:
    output = tmp_path / "said"
    number = slurm.queue.submit(
        "echo from $SLURMD_NODENAME",
        f"--output={output}",
        "--account=survey",
        "--qos=fast",
        "--partition=short",
    )
    job = slurm.queue.wait_for_state(number, "COMPLETED")
    assert (job.account, job.partition) == ("survey", "short")
    assert output.read_text() == f"from {job.node}\n"


def test_two_nodes_take_more_jobs_than_the_machine_has_cores(slurm: LocalSlurm) -> None:
    for _ in range(2):
        slurm.queue.submit(LONG, "--nodes=1", "--cpus-per-task=16", "--mem=10G")
    slurm.queue.wait_until(
        lambda: {job.node for job in slurm.queue.active_jobs()} == {"node1", "node2"},
        "a job on each node",
    )
    waiting = slurm.queue.submit(LONG)
    assert slurm.queue.job(waiting).state == "PENDING"


def test_a_cancelled_job_ends(slurm: LocalSlurm, tmp_path: Path) -> None:
    pid = _started(slurm, tmp_path)
    slurm.queue.cancel(slurm.queue.active_jobs()[0].job_id)
    slurm.queue.wait_until(lambda: not slurm.queue.active_jobs(), "an empty queue")
    assert not _exists(slurm, pid)


def _started(slurm: LocalSlurm, folder: Path, *options: str) -> int:
    """Submit a job and give the id of its process once it runs."""
    output = folder / "pid"
    slurm.queue.submit(f"echo $$; exec {LONG}", f"--output={output}", *options)
    slurm.queue.wait_until(lambda: output.exists() and output.read_text(), "the job to run")
    return int(output.read_text())


def _exists(slurm: LocalSlurm, pid: int) -> bool:
    return pid in {process.pid for process in slurm.processes()}
