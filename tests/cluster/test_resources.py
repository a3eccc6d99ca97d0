"""What may be used of the machine: the least of all that sets a bound."""

import os
import resource
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from batuta.cluster import resources
from batuta.cluster.resources import Bound, available_ram_bytes, usable_cores
from batuta.errors import ConfigurationError

MIB = 1 << 20


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand for /sys/fs/cgroup: no limit at first."""
    root = tmp_path / "cgroup"
    root.mkdir()
    monkeypatch.setattr(resources, "_GROUPS", root)
    monkeypatch.setattr(resources, "_OWN_GROUPS", tmp_path / "own")
    (tmp_path / "own").write_text("")
    monkeypatch.setattr(resources, "_affinity", lambda: Bound(64, "CPU affinity"))
    return root


def put(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_without_any_limit_the_machine_counts(groups: Path) -> None:
    assert usable_cores({}) == Bound(64, "CPU affinity")
    free = available_ram_bytes({})
    assert free.source == "free on the machine"
    assert 0 < free.amount <= psutil.virtual_memory().total


def test_the_affinity_of_the_process_is_respected() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert usable_cores({}).amount == 1
    finally:
        os.sched_setaffinity(0, before)


def test_the_least_limit_of_all_groups_above_counts(groups: Path, tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/jobs/mine\n")
    put(groups / "jobs", {"cpu.max": "350000 100000", "memory.max": str(900 * MIB)})
    put(groups / "jobs", {"memory.current": str(100 * MIB), "memory.stat": "anon 5\n"})
    put(groups / "jobs/mine", {"cpu.max": "max 100000", "memory.max": "max"})
    cores, ram = usable_cores({}), available_ram_bytes({})
    assert cores.amount == 3
    assert cores.source.endswith("/jobs")
    assert ram.amount == 800 * MIB
    assert "memory limit of the control group" in ram.source


def test_cached_files_count_as_free_in_a_group(groups: Path, tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/\n")
    stat = f"anon 1\ninactive_file {300 * MIB}\n"
    put(groups, {"memory.max": str(500 * MIB), "memory.current": str(400 * MIB)})
    put(groups, {"memory.stat": stat})
    assert available_ram_bytes({}).amount == 400 * MIB


def test_groups_of_version_1_count_too(groups: Path, tmp_path: Path) -> None:
    (tmp_path / "own").write_text("5:cpu,cpuacct:/a\n4:memory:/a\n1:name=systemd:/x\n")
    put(groups / "cpu/a", {"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"})
    put(groups / "memory/a", {"memory.limit_in_bytes": str(700 * MIB)})
    put(groups / "memory/a", {"memory.usage_in_bytes": str(200 * MIB)})
    assert usable_cores({}).amount == 1  # half a core is one worker
    assert available_ram_bytes({}).amount == 500 * MIB


def test_no_limit_of_version_1_is_no_limit(groups: Path, tmp_path: Path) -> None:
    (tmp_path / "own").write_text("5:cpu:/a\n4:memory:/a\n")
    put(groups / "cpu/a", {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"})
    put(groups / "memory/a", {"memory.limit_in_bytes": "9223372036854771712"})
    put(groups / "memory/a", {"memory.usage_in_bytes": "5"})
    assert usable_cores({}).source == "CPU affinity"
    assert available_ram_bytes({}).source == "free on the machine"


@pytest.mark.parametrize(
    ("environment", "bound"),
    [
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "5"}, Bound(5, "SLURM_CPUS_PER_TASK")),
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "6"}, Bound(6, "SLURM_CPUS_ON_NODE")),
        ({"PBS_JOBID": "7", "NCPUS": "3"}, Bound(3, "NCPUS")),
        ({"PBS_JOBID": "7", "PBS_NUM_PPN": "2"}, Bound(2, "PBS_NUM_PPN")),
        ({"NCPUS": "3", "SLURM_CPUS_ON_NODE": "2"}, Bound(64, "CPU affinity")),
    ],
)
def test_a_batch_system_grants_cores_to_its_jobs(
    groups: Path, environment: dict[str, str], bound: Bound
) -> None:
    assert usable_cores(environment) == bound


@pytest.mark.parametrize(
    ("environment", "granted_mib"),
    [
        ({"SLURM_MEM_PER_NODE": "1500"}, 1500),
        ({"SLURM_MEM_PER_CPU": "500", "SLURM_CPUS_ON_NODE": "2"}, 1000),
    ],
)
def test_a_batch_system_grants_memory_less_what_is_used(
    groups: Path, environment: dict[str, str], granted_mib: int
) -> None:
    found = available_ram_bytes({"SLURM_JOB_ID": "7", **environment})
    assert found.source in environment
    assert 0 < found.amount < granted_mib * MIB


def test_all_the_memory_of_a_node_is_no_limit(groups: Path) -> None:
    environment = {"SLURM_JOB_ID": "7", "SLURM_MEM_PER_NODE": "0"}
    assert available_ram_bytes(environment).source == "free on the machine"


def test_a_limit_of_the_process_counts(groups: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_RSS)
    resource.setrlimit(resource.RLIMIT_RSS, (1000 * MIB, before[1]))
    try:
        assert available_ram_bytes({}) == Bound(1000 * MIB, "limit RLIMIT_RSS of the process")
    finally:
        resource.setrlimit(resource.RLIMIT_RSS, before)


def test_a_variable_that_is_no_number_is_named(groups: Path) -> None:
    with pytest.raises(ConfigurationError, match="SLURM_CPUS_ON_NODE: 'many' in the environment"):
        usable_cores({"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "many"})
