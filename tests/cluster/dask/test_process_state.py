"""State that clusters share: dask's configuration and loggers, and the workers of a scheduler."""

import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client

from batuta.cluster import ClusterError, check_configuration, create_cluster
from batuta.cluster.dask.config import DaskConfig
from batuta.cluster.dask.settings import (
    dask_configured,
    environment_restored,
    worker_processes_started_by,
)
from batuta.cluster.dask.telemetry.loggers import dask_loggers_redirected
from batuta.cluster.dask.telemetry.worker_plugin import plugin_name
from tests.cluster.conftest import compute
from tests.support.dask_clusters import manual_cluster
from tests.support.waiting import eventually_sync

PROFILE = "distributed.worker.profile.enabled"
START_METHOD = "distributed.worker.multiprocessing-method"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with manual_cluster(tmp_path_factory.mktemp("dask")) as address:
        yield address


def config_of(**keys: Any) -> DaskConfig:
    config = check_configuration(keys)
    assert isinstance(config, DaskConfig)
    return config


def dask_state() -> tuple[str, list[tuple[Any, ...]]]:
    """Return dask's configuration and the settings of loggers that its servers do not change."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    return repr(dask.config.config), [
        (each.level, each.propagate, each.handlers[:]) for each in loggers
    ]


@pytest.fixture
def handler() -> Iterator[logging.Handler]:
    """A handler of dask's own, which writes to the screen."""
    logger, handler = logging.getLogger("distributed"), logging.NullHandler()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.mark.parametrize("first_closed", [0, 1])
def test_clusters_of_one_process_close_in_any_order(
    tmp_path: Path, handler: logging.Handler, first_closed: int
) -> None:
    before, environment = dask_state(), dict(os.environ)
    conf = check_configuration({"mode": "local_dask", "nb_workers": 1})
    clusters = [create_cluster(conf, tmp_path) for _ in range(2)]
    in_force = dask_state()
    assert in_force != before
    clusters.pop(first_closed).cleanup()
    assert dask_state() == in_force
    assert compute(clusters[0], [clusters[0].create_task(abs)(-3)]) == [3]
    clusters[0].cleanup()
    assert dask_state() == before
    assert handler in logging.getLogger("distributed").handlers
    assert dict(os.environ) == environment


def test_a_cluster_that_closes_restores_only_what_it_has_set() -> None:
    before = dask.config.get(PROFILE), dask.config.get(START_METHOD)
    forked = worker_processes_started_by("fork")
    shown = dask_configured(config_of(mode="local_dask", activate_dashboard=True))
    forked.__enter__()
    shown.__enter__()
    assert (dask.config.get(PROFILE), dask.config.get(START_METHOD)) == (True, "fork")
    forked.__exit__(None, None, None)
    assert (dask.config.get(PROFILE), dask.config.get(START_METHOD)) == (True, before[1])
    shown.__exit__(None, None, None)
    assert (dask.config.get(PROFILE), dask.config.get(START_METHOD)) == before


def test_a_key_that_dask_did_not_have_is_removed() -> None:
    with dask.config.set({PROFILE: True}):
        dask.config.pop(PROFILE)
        with dask_configured(config_of(mode="local_dask")):
            assert dask.config.get(PROFILE) is False
        assert dask.config.get(PROFILE, "none") == "none"


def test_the_environment_is_restored_by_the_last_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    first, second = environment_restored(), environment_restored()
    first.__enter__()
    os.environ["PYTHONHASHSEED"] = "6640"
    second.__enter__()
    first.__exit__(None, None, None)
    assert os.environ["PYTHONHASHSEED"] == "6640"
    second.__exit__(None, None, None)
    assert "PYTHONHASHSEED" not in os.environ


def test_dask_stays_quiet_until_the_last_cluster_is_closed(handler: logging.Handler) -> None:
    logger = logging.getLogger("distributed")
    first, second = dask_loggers_redirected(), dask_loggers_redirected()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert (logger.handlers, logger.propagate) == ([], True)
    second.__exit__(None, None, None)
    assert handler in logger.handlers


def warn(word: str) -> None:
    logging.getLogger("a.program").warning(word)


def words(folder: Path) -> list[str]:
    lines = [path.read_text().splitlines() for path in folder.rglob("worker_*.log")]
    return sorted(line.split()[-1] for each in lines for line in each)


def test_programs_that_share_workers_lose_no_line_of_their_logs(
    address: str, tmp_path: Path
) -> None:
    conf = check_configuration({"mode": "dask", "scheduler_address": address})
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()
    a = create_cluster(conf, folders[0])
    compute(a, [a.create_task(warn)("a1")])
    b = create_cluster(conf, folders[1])
    compute(b, [b.create_task(warn)("b1")])
    compute(a, [a.create_task(warn)("a2")])
    eventually_sync(lambda: {"a1", "a2"} <= set(words(folders[0])), 20)
    b.cleanup()
    unlogged = create_cluster(conf, None)
    compute(unlogged, [unlogged.create_task(abs)(1)])
    unlogged.cleanup()
    compute(a, [a.create_task(warn)("a3"), a.create_task(warn)("a4")])
    a.cleanup()
    assert [word for word in words(folders[0]) if word[0] == "a"] == ["a1", "a2", "a3", "a4"]
    assert "b1" in words(folders[1])
    assert not {"a3", "a4"} & set(words(folders[1]))


def state_of_a_worker(dask_worker: Any) -> tuple[Any, ...]:
    loggers = [logging.getLogger(name) for name in ("root", "distributed", "distributed.worker")]
    return (
        [(each.level, each.propagate, len(each.handlers), len(each.filters)) for each in loggers],
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
        warnings.showwarning.__module__,
        [name for name in dask_worker.plugins if "batuta" in name],
    )


def topics(dask_scheduler: Any, client: str) -> list[str]:
    found = dask_scheduler._broker._topics.items()
    return [name for name, topic in found if client in topic.subscribers]


def test_workers_of_an_existing_cluster_are_left_as_they_were(address: str, tmp_path: Path) -> None:
    conf = check_configuration({"mode": "dask", "scheduler_address": address})
    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(2, 60)
        before = client.run(state_of_a_worker)
        a = create_cluster(conf, tmp_path)
        (plugin,) = {name for state in client.run(state_of_a_worker).values() for name in state[3]}
        b = create_cluster(conf, tmp_path)
        changed = client.run(state_of_a_worker)
        assert all(len(state[3]) == 2 for state in changed.values())
        assert all(state[1] for state in changed.values())
        own_id = plugin.removeprefix(plugin_name(""))
        assert {"all", own_id} < set(client.run_on_scheduler(topics, client=own_id))
        a.cleanup()
        still_changed = client.run(state_of_a_worker)
        assert [state[1:3] for state in still_changed.values()] == [(True, "logging")] * 2
        b.cleanup()
        assert client.run(state_of_a_worker) == before
        assert set(client.run_on_scheduler(topics, client=own_id)) <= {"print", "warn"}  # dask's


def test_a_worker_that_logs_nothing_has_no_log_file(address: str, tmp_path: Path) -> None:
    conf = check_configuration({"mode": "dask", "scheduler_address": address})
    cluster = create_cluster(conf, tmp_path)
    compute(cluster, [cluster.create_task(abs)(-1)])
    cluster.cleanup()
    assert not list(tmp_path.rglob("worker_*.log"))


def test_workers_without_batuta_are_reported(tmp_path: Path) -> None:
    with cluster_without_batuta(tmp_path) as address:
        conf = check_configuration({"mode": "dask", "scheduler_address": address})
        with pytest.raises(ClusterError) as caught:
            create_cluster(conf, tmp_path)
        with Client(address, set_as_default=False) as client:
            # A function without a name is sent whole: this module cannot be imported there.
            left = client.run_on_scheduler(lambda dask_scheduler: [*dask_scheduler.worker_plugins])
    assert not [name for name in left if "batuta" in name]
    assert str(caught.value).startswith(
        f"scheduler_address: the workers of {address} need this version of Batuta and the modules"
    )
    assert "ModuleNotFoundError" in str(caught.value)
    assert "\n" not in str(caught.value)


def plugins(dask_scheduler: Any) -> list[str]:
    return [name for name in dask_scheduler.worker_plugins if "batuta" in name]


WITHOUT_BATUTA = (
    "import sys; sys.modules['batuta'] = None; sys.argv[0] = 'dask';"
    "from distributed.cli import dask_{} as command; command.main()"
)


@contextmanager
def cluster_without_batuta(folder: Path) -> Iterator[str]:
    file = folder / "scheduler.json"
    processes = []
    options = {
        "scheduler": ["--host=127.0.0.1", "--port=0"],
        "worker": ["--nthreads=1", "--no-nanny"],
    }
    try:
        for what, those in options.items():
            code = WITHOUT_BATUTA.format(what)
            command = [sys.executable, "-c", code, "--no-dashboard", f"--scheduler-file={file}"]
            with (folder / f"{what}.out").open("wb") as out:
                processes.append(
                    subprocess.Popen([*command, *those], cwd=folder, stdout=out, stderr=out)
                )
            eventually_sync(lambda: file.exists() and '"address"' in file.read_text(), 60)
        address = file.read_text().split('"address": "')[1].split('"')[0]
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(1, 60)
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(20)


def test_the_plugin_of_a_run_has_a_name_of_its_own(address: str, tmp_path: Path) -> None:
    conf = check_configuration({"mode": "dask", "scheduler_address": address})
    clusters = [create_cluster(conf, tmp_path) for _ in range(2)]
    with Client(address, set_as_default=False) as client:
        assert len(set(client.run_on_scheduler(plugins))) == len(clusters)
        for cluster in clusters:
            cluster.cleanup()
        assert client.run_on_scheduler(plugins) == []
