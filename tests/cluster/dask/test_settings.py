"""The port that workers in batch jobs connect to, where a firewall lets one through."""

import socket
from pathlib import Path
from typing import Any

import pytest

from batuta.cluster import ClusterError, check_configuration, create_cluster
from tests.cluster.conftest import compute
from tests.cluster.functions import add
from tools.slurm import LocalSlurm

pytestmark = pytest.mark.usefixtures("slurm")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def make_cluster(port: int, out_dir: Path) -> Any:
    conf = {"mode": "slurm_dask", "account": "observatory", "scheduler_port": port}
    return create_cluster(check_configuration(conf), out_dir)


def test_workers_connect_to_the_scheduler_port(tmp_path: Path) -> None:
    port = free_port()
    cluster = make_cluster(port, tmp_path)
    try:
        assert compute(cluster, [cluster.create_task(add)(1)]) == [1]
        assert f":{port}\n" in (tmp_path / "workers_log" / _log(tmp_path)).read_text()
    finally:
        cluster.cleanup()


def _log(out_dir: Path) -> str:
    logs = (out_dir / "workers_log").glob("*")
    return next(path.name for path in logs if "Waiting to connect to" in path.read_text())


def test_a_scheduler_port_that_is_taken_is_refused(tmp_path: Path, slurm: LocalSlurm) -> None:
    with socket.socket() as probe:
        probe.bind(("", 0))
        probe.listen()
        port = probe.getsockname()[1]
        with pytest.raises(ClusterError, match=f"scheduler_port: cannot listen on port {port}: "):
            make_cluster(port, tmp_path)
    assert not slurm.queue.active_jobs()
