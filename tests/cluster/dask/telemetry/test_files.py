"""The files written of workers: their logs, and their memory over time."""

import csv
from pathlib import Path

import pytest

from batuta.cluster import check_configuration, create_cluster
from batuta.cluster.dask.telemetry.collector import EventCollector
from batuta.cluster.dask.telemetry.files import (
    MEMORY_COLUMNS,
    MEMORY_FILE,
    MemoryLog,
    WorkerLogs,
)
from batuta.cluster.task_metrics import TaskMetrics
from batuta.datasets import CarsDataset
from batuta.errors import ConfigurationError
from batuta.orchestrator import Orchestrator
from tests.cluster import functions
from tests.support.waiting import eventually_sync


def rows(folder: Path) -> list[dict[str, str]]:
    path = folder / MEMORY_FILE
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_memory_of_each_worker_is_written_while_tasks_run(tmp_path: Path) -> None:
    conf = {"mode": "local_dask", "use_memory_logger": True}
    with Orchestrator(conf, tmp_path) as orchestrator:
        held = CarsDataset("dict", name="held")
        held.create_grid(2, 1, 1, 1)
        marker = tmp_path / "go on"
        for place in held.positions():
            held[place] = orchestrator.cluster.create_task(functions.hold_until)(str(marker), 200)
        futures = orchestrator.cluster.start_tasks([held[0, 0], held[0, 1]])

        def both_hold() -> bool:
            large = {
                row["pid"]
                for row in rows(tmp_path)
                if int(row["process_bytes"]) > 200e6 and row["tasks_running"] == "1"
            }
            return len(large) == 2

        eventually_sync(both_hold, 60)
        marker.touch()
        assert list(orchestrator.cluster.future_iterator(futures)) == [200, 200]
    found = rows(tmp_path)
    assert tuple(found[0]) == MEMORY_COLUMNS
    assert len({row["worker"] for row in found}) == 2
    times = [row["time"] for row in found if row["pid"] == found[0]["pid"]]
    assert times == sorted(times)


def test_the_memory_logger_needs_somewhere_to_write() -> None:
    conf = check_configuration({"mode": "local_dask", "use_memory_logger": True})
    with pytest.raises(ConfigurationError, match="use_memory_logger: true given without out_dir"):
        create_cluster(conf, None)


def test_a_second_run_appends_to_the_file_of_the_first(tmp_path: Path) -> None:
    message = dict.fromkeys(MEMORY_COLUMNS, 1) | {"time_s": 1e9}
    for _ in range(2):
        record = MemoryLog(tmp_path)
        record.write(message)
        record.close()
    assert [row["time"] for row in rows(tmp_path)] == ["2001-09-09T01:46:40.000+00:00"] * 2


def test_the_name_of_a_host_cannot_be_a_path(tmp_path: Path) -> None:
    logs = WorkerLogs(tmp_path / "logs")
    logs.write({"host": "../../etc/cron", "pid": 12, "lines": ["one", "two"]})
    logs.write({"host": "node7.centre.eu", "pid": 3, "lines": ["three"]})
    logs.close()
    found = {path.name: path.read_text() for path in (tmp_path / "logs").iterdir()}
    assert found == {
        "worker_______etc_cron_12.log": "one\ntwo\n",
        "worker_node7_centre_eu_3.log": "three\n",
    }


def open_files() -> int:
    """How many files this process has open; other tests may have left some to the session."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_logs_of_a_thousand_workers_do_not_hold_a_thousand_files_open(tmp_path: Path) -> None:
    before = open_files()
    logs = WorkerLogs(tmp_path)
    for turn in range(2):
        for pid in range(200):
            logs.write({"host": "node", "pid": pid, "lines": [f"line {turn}"]})
    assert open_files() - before <= 64
    logs.close()
    assert (tmp_path / "worker_node_199.log").read_text() == "line 0\nline 1\n"
    assert (tmp_path / "worker_node_0.log").read_text() == "line 0\nline 1\n"


def test_a_message_that_arrives_twice_is_written_once(tmp_path: Path) -> None:
    collector = EventCollector(TaskMetrics(), tmp_path, memory=False)
    for number in (1, 2, 1, 3, 2, 3):
        lines = {"kind": "lines", "lines": [f"line {number}"]}
        collector.on_message({"host": "node", "pid": 7, "number": number, **lines})
    collector.close()
    assert (tmp_path / "workers_log" / "worker_node_7.log").read_text() == (
        "line 1\nline 2\nline 3\n"
    )
