"""The local Slurm of the project runs batch jobs, and fails as Slurm fails."""

import subprocess
from pathlib import Path

import pytest

from tools.slurm import LocalSlurm, SlurmError

LONG = "sleep 600"


def test_a_batch_job_runs_with_the_account_and_partition_that_it_names(
    slurm: LocalSlurm, tmp_path: Path
) -> None:
    output = tmp_path / "output"
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


def test_two_nodes_run_more_batch_jobs_than_the_machine_has_cores(slurm: LocalSlurm) -> None:
    for _ in range(2):
        slurm.queue.submit(LONG, "--nodes=1", "--cpus-per-task=16", "--mem=10G")
    slurm.queue.wait_until(
        lambda: {job.node for job in slurm.queue.active_jobs()} == {"node1", "node2"},
        "a job on each node",
    )
    waiting = slurm.queue.submit(LONG)
    assert slurm.queue.job(waiting).state == "PENDING"


def test_a_cancelled_job_ends(slurm: LocalSlurm, tmp_path: Path) -> None:
    number, pid = _started(slurm, tmp_path)
    slurm.queue.cancel(number)
    assert slurm.queue.wait_for_state(number, "CANCELLED").has_ended
    slurm.queue.wait_until(lambda: not _is_running(slurm, pid), "its process to end")


def test_a_job_over_its_walltime_is_ended(slurm: LocalSlurm, tmp_path: Path) -> None:
    number, pid = _started(slurm, tmp_path, "--time=00:05:00")
    slurm.queue.expire(number)
    assert slurm.queue.wait_for_state(number, "TIMEOUT", timeout_s=60).has_ended
    slurm.queue.wait_until(lambda: not _is_running(slurm, pid), "its process to end")


def test_the_batch_jobs_of_a_node_that_dies_fail_or_run_elsewhere(
    slurm: LocalSlurm, tmp_path: Path
) -> None:
    again, pid = _started(slurm, tmp_path)
    lost = slurm.queue.job(again).node
    (other,) = set(slurm.shape.names) - {lost}
    once, other_pid = _started(slurm, tmp_path, f"--nodelist={lost}", "--no-requeue")
    slurm.power_off(lost)
    assert not _is_running(slurm, pid)
    assert not _is_running(slurm, other_pid)
    slurm.queue.wait_until(lambda: slurm.queue.nodes()[lost] == "down*", f"{lost} to be lost", 60)
    assert slurm.queue.job(once).state == "NODE_FAIL"
    slurm.queue.wait_until(
        lambda: slurm.queue.job(again).reason == "BeginTime", "it to be queued again"
    )
    slurm.queue.release(again)
    assert slurm.queue.wait_for_state(again, "RUNNING").node == other
    slurm.start_slurmd(lost)
    assert slurm.queue.nodes()[lost] == "idle"
    assert slurm.queue.job(again).state == "RUNNING"


def test_a_node_declared_down_loses_its_jobs_at_once(slurm: LocalSlurm, tmp_path: Path) -> None:
    number, _ = _started(slurm, tmp_path, "--nodelist=node1", "--no-requeue")
    slurm.power_off("node1")
    slurm.queue.set_down("node1")
    assert slurm.queue.wait_for_state(number, "NODE_FAIL").has_ended
    slurm.restore()
    assert slurm.queue.nodes() == {"node1": "idle", "node2": "idle"}


def test_a_batch_job_outlives_the_slurmd_of_its_node(slurm: LocalSlurm, tmp_path: Path) -> None:
    number, pid = _started(slurm, tmp_path, "--nodelist=node2")
    slurm.kill_slurmd("node2")
    slurm.start_slurmd("node2")
    assert _is_running(slurm, pid)
    assert slurm.queue.job(number).state == "RUNNING"


def test_batch_jobs_outlive_the_controller_and_commands_fail_without_it(
    slurm: LocalSlurm, tmp_path: Path
) -> None:
    number, pid = _started(slurm, tmp_path)
    slurm.stop_controller()
    with pytest.raises(SlurmError, match="Unable to contact slurm controller"):
        slurm.queue.submit(LONG)
    slurm.start_controller()
    assert _is_running(slurm, pid)
    assert slurm.queue.job(number).state == "RUNNING"


@pytest.mark.parametrize("resources", ["select=1:ncpus=2:mem=1431MB", "nodes=1:ppn=2"])
def test_pbs_commands_submit_show_and_delete_a_job(
    slurm: LocalSlurm, tmp_path: Path, resources: str
) -> None:
    script = tmp_path / "job.sh"
    script.write_text(
        f"#!/bin/sh\n#PBS -N worker\n#PBS -q short\n#PBS -A survey\n#PBS -l {resources}\n"
        f"#PBS -l walltime=00:05:00\n{LONG}\n"
    )
    number = int(_output_of("qsub", str(script)))
    job = slurm.queue.wait_for_state(number, "RUNNING")
    assert (job.name, job.partition, job.account) == ("worker", "short", "survey")
    shown = slurm.queue.run("scontrol", "show", "job", str(number))
    assert "NumCPUs=2 " in shown
    assert "TimeLimit=00:05:00" in shown
    assert _row(_output_of("qstat", str(number))) == ["worker", "R", "short"]
    _output_of("qdel", str(number))
    assert slurm.queue.wait_for_state(number, "CANCELLED").has_ended


def test_a_wait_that_times_out_says_what_for_and_what_there_is(
    slurm: LocalSlurm,
) -> None:
    number = slurm.queue.submit(LONG, "--hold")
    with pytest.raises(SlurmError, match=rf"0 s for rain; nodes: .*idle.*job_id={number},"):
        slurm.queue.wait_until(lambda: False, "rain", timeout_s=0)


def test_a_wait_fails_at_once_when_the_batch_job_ends_in_another_state(slurm: LocalSlurm) -> None:
    number = slurm.queue.submit("exit 3")
    with pytest.raises(SlurmError, match=rf"job {number}: FAILED \(.*\), COMPLETED expected"):
        slurm.queue.wait_for_state(number, "COMPLETED")


def test_an_unknown_batch_job_is_reported(slurm: LocalSlurm) -> None:
    with pytest.raises(SlurmError, match="job 987654: not in the queue"):
        slurm.queue.job(987654)


def _started(slurm: LocalSlurm, folder: Path, *options: str) -> tuple[int, int]:
    """Submit a batch job; return its id and that of its process once it runs."""
    number = slurm.queue.submit(
        f"echo $$; exec {LONG}", f"--output={folder}/%j", "--cpus-per-task=2", *options
    )
    output = folder / str(number)
    slurm.queue.wait_until(lambda: output.exists() and output.read_text(), "the job to run")
    return number, int(output.read_text())


def _is_running(slurm: LocalSlurm, pid: int) -> bool:
    return pid in {process.pid for process in slurm.processes()}


def _output_of(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _row(table: str) -> list[str]:
    """Return the name, the state and the queue of the last batch job that qstat shows."""
    words = table.splitlines()[-1].split()
    return [words[1], words[4], words[5]]
