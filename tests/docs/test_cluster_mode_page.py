"""The cluster mode of docs/how-to/add-a-cluster-mode.md works as it is written there."""

from pathlib import Path

import pytest

from batuta.cluster import TaskFailedError, check_configuration, create_cluster
from batuta.errors import ConfigurationError
from batuta.orchestrator import Orchestrator
from tests.docs.test_docs import ROOT, fences
from tests.orchestrator.map_program import run_program

PAGE = ROOT / "docs" / "how-to" / "add-a-cluster-mode.md"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the package that the page describes."""
    (code,) = fences(PAGE, "python")
    (tmp_path / "batuta_threads.py").write_text(code)
    (points,) = fences(PAGE, "toml")
    info = tmp_path / "batuta_threads-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: batuta-threads\nVersion: 1.0\n")
    group, name = points.split("\n")[:2]
    assert group == '[project.entry-points."batuta.clusters"]'
    (info / "entry_points.txt").write_text("[batuta.clusters]\n" + name.replace('"', "") + "\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("installed")
def test_the_mode_of_the_page_gives_the_same_bytes_as_sequential(tmp_path: Path) -> None:
    run_program({"mode": "sequential"}, tmp_path / "plain")
    run_program({"mode": "threads", "nb_threads": 8}, tmp_path / "threads")
    for name in ("map.tif", "mask.tif", "points.parquet", "points.csv"):
        assert (tmp_path / "threads" / name).read_bytes() == (
            tmp_path / "plain" / name
        ).read_bytes()


@pytest.mark.usefixtures("installed")
def test_the_keys_of_the_mode_of_the_page_are_checked() -> None:
    with pytest.raises(ConfigurationError, match="nb_threads: 0 given, a whole number above 0"):
        Orchestrator({"mode": "threads", "nb_threads": 0})
    with pytest.raises(ConfigurationError, match="auto, threads"):
        Orchestrator({"mode": "thread"})


@pytest.mark.usefixtures("installed")
def test_the_mode_of_the_page_yields_values_then_raises_what_failed() -> None:
    cluster = create_cluster(check_configuration({"mode": "threads"}), None)
    one = cluster.create_task(abs)(-1)
    futures = cluster.start_tasks(
        [cluster.create_task(int)("x"), one, cluster.create_task(max)(one, 2)]
    )
    values: list[int] = []
    for _ in range(2):
        with pytest.raises(TaskFailedError, match="invalid literal"):
            values.extend(cluster.future_iterator(futures))
    assert sorted(values) == [1, 2]
    cluster.cleanup()
