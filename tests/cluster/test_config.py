"""The keys of each mode, their types and defaults, and the messages about mistakes."""

from pathlib import Path
from typing import Any

import pytest

from batuta.cluster import available_modes, check_configuration, create_cluster
from batuta.cluster.resources import MB, Bound, workers_that_fit
from batuta.cluster.sequential import SequentialCluster
from batuta.errors import ConfigurationError
from batuta.orchestrator import Orchestrator


def problems(conf: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        check_configuration(conf)
    return list(caught.value.problems)


def test_every_key_of_multiprocessing_has_its_default() -> None:
    assert check_configuration({"mode": "multiprocessing"}).as_dict() == {
        "mode": "multiprocessing",
        "task_timeout": 600,
        "profiling": None,
        "on_tile_failure": "raise",
        "resume": False,
        "mp_mode": "forkserver",
        "nb_workers": 2,
        "max_ram_per_worker": 2000,
        "max_tasks_per_worker": 10,
        "dump_to_disk": True,
        "per_job_timeout": 600,
        "factorize_tasks": True,
    }


def test_every_key_of_sequential_has_its_default() -> None:
    assert check_configuration({"mode": "sequential"}).as_dict() == {
        "mode": "sequential",
        "task_timeout": 600,
        "profiling": None,
        "on_tile_failure": "raise",
        "resume": False,
    }


def test_no_mode_is_auto_which_is_multiprocessing_with_workers_of_2000_mb() -> None:
    config: Any = check_configuration(None)
    assert config.mode == "multiprocessing"
    assert config.max_ram_per_worker == 2000
    assert config.nb_workers >= 1


def test_a_configuration_in_force_can_be_given_again() -> None:
    config = check_configuration({"mode": "multiprocessing", "nb_workers": 3})
    assert check_configuration(config.as_dict()) == config


def test_all_mistakes_are_told_at_once_one_line_each() -> None:
    assert problems(
        {
            "mode": "multiprocessing",
            "nb_workers": 0,
            "nb_worker": 2,
            "max_ram_per_worker": "2000",
            "max_tasks_per_worker": 1.5,
            "dump_to_disk": 1,
            "per_job_timeout": float("inf"),
            "mp_mode": "thread",
            "task_timeout": True,
        }
    ) == [
        "task_timeout: True given, a whole number above 0 expected",
        "mp_mode: 'thread' given, one of forkserver, fork, spawn expected",
        "nb_workers: 0 given, a whole number above 0 expected",
        "max_ram_per_worker: '2000' given, a number above 0 expected",
        "max_tasks_per_worker: 1.5 given, a whole number above 0 expected",
        "dump_to_disk: 1 given, true or false expected",
        "per_job_timeout: inf given, a number above 0 expected",
        "nb_worker: unknown key, did you mean nb_workers?",
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("multiprocessing", "'multiprocessing'"),
        (3, "3"),
        ([("mode", "sequential")], "a list"),
        ("", "''"),
    ],
)
def test_a_configuration_that_is_no_mapping_is_refused(given: Any, said: str) -> None:
    assert problems(given) == [
        f"orchestrator_conf: {said} given, a mapping of keys or None expected"
    ]


def test_a_key_that_is_no_text_is_unknown_as_any_other() -> None:
    conf: Any = {"mode": "sequential", 1: 2, "task_timeout": 0, "profiling": {3: 4}}
    assert problems(conf) == [
        "task_timeout: 0 given, a whole number above 0 expected",
        "profiling.3: unknown key (known: mode, loop_testing, loops, scope)",
        "1: unknown key (known: mode, task_timeout, profiling, on_tile_failure, resume)",
    ]


def test_keys_of_another_mode_are_refused() -> None:
    (line,) = problems({"mode": "sequential", "nb_workers": 2})
    assert (
        line
        == "nb_workers: unknown key (known: mode, task_timeout, profiling, on_tile_failure, resume)"
    )
    expected = "nb_workers: 'auto' chooses it itself; to set it, mode: multiprocessing"
    assert problems({"mode": "auto", "nb_workers": 2}) == [expected]


def test_an_unknown_mode_names_those_that_exist() -> None:
    (line,) = problems({"mode": "threads"})
    assert line == (
        "mode: 'threads' is not a mode (available: sequential, multiprocessing, local_dask,"
        " pbs_dask, slurm_dask, dask, auto)"
    )
    assert "mode: 3 is not a mode" in problems({"mode": 3})[0]


def test_profiling_is_checked() -> None:
    assert problems({"mode": "sequential", "profiling": {"mode": "perf", "loop_test": True}}) == [
        "profiling.mode: 'perf' given, one of cars_profiling, cprofile, memray expected",
        "profiling.loop_test: unknown key, did you mean loop_testing?",
    ]
    assert problems({"mode": "sequential", "profiling": "cprofile"}) == [
        "profiling: 'cprofile' given, a table of keys expected"
    ]
    assert problems({"mode": "auto", "profiling": {"loops": 2, "scope": "tile"}}) == [
        "profiling.loops: 2 given, a whole number of at least 7 expected",
        "profiling.scope: 'tile' given, one of worker, task expected",
    ]


def test_a_table_without_keys_profiles_as_cars_does() -> None:
    config = check_configuration({"mode": "sequential", "profiling": {}})
    assert config.as_dict()["profiling"] == {
        "mode": "cars_profiling",
        "loop_testing": False,
        "loops": 10,
        "scope": "worker",
    }


@pytest.mark.parametrize(
    ("ram_mb", "cores", "workers"), [(2000, 8, 1), (9000, 8, 4), (64_000, 2, 2)]
)
def test_auto_takes_as_many_workers_as_fit_at_most_one_a_core(
    ram_mb: int, cores: int, workers: int
) -> None:
    found = workers_that_fit(Bound(ram_mb * MB, "free"), Bound(cores, "affinity"))
    assert found == workers


def test_auto_refuses_a_machine_with_less_than_2000_mb() -> None:
    with pytest.raises(
        ConfigurationError, match=r"needs 2000 MB .* 1999 MB are available \(here\)"
    ):
        workers_that_fit(Bound(1999 * MB, "here"), Bound(4, "there"))


PLUGIN = """
from dataclasses import dataclass
from typing import Literal
from batuta.cluster.config import CommonConfig
from batuta.cluster.sequential import SequentialCluster

@dataclass(frozen=True, kw_only=True)
class HereConfig(CommonConfig):
    mode: Literal["here"] = "here"
    greeting: str = "hello"

class HereCluster(SequentialCluster):
    config_model = HereConfig
"""


def test_a_package_brings_a_mode_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "batuta_here.py").write_text(PLUGIN)
    info = tmp_path / "batuta_here-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: batuta-here\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[batuta.clusters]\nhere = batuta_here:HereCluster\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert available_modes()[-1] == "here"
    assert problems({"mode": "here", "greetings": "ho"}) == [
        "greetings: unknown key, did you mean greeting?"
    ]
    with Orchestrator({"mode": "here", "greeting": "ho"}) as orchestrator:
        assert orchestrator.cluster.create_task(abs)(-3) == 3
        assert orchestrator.get_conf()["greeting"] == "ho"


@pytest.mark.parametrize(
    ("mode", "mp_mode"),
    [("multiprocessing", "fork"), ("multiprocessing", "forkserver"), ("local_dask", "forkserver")],
)
def test_windows_spawns_whatever_is_asked_and_says_so(
    mode: str, mp_mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.system", lambda: "Windows")
    with pytest.warns(UserWarning, match=f"mp_mode: '{mp_mode}' does not exist on Windows"):
        config = check_configuration({"mode": mode, "mp_mode": mp_mode})
    assert config.as_dict()["mp_mode"] == "spawn"


def test_the_cluster_of_a_mode_says_the_memory_of_its_workers() -> None:
    cluster = create_cluster(check_configuration({"mode": "sequential"}), None)
    assert isinstance(cluster, SequentialCluster)
    assert cluster.checked_conf_cluster["max_ram_per_worker"] == 2000
