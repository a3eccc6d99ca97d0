"""What starting workers takes from around the process is not taken for granted."""

import errno
import io
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from batuta.cluster import ClusterError, NoSpaceError, check_configuration, create_cluster
from batuta.cluster.environment import (
    check_semaphores,
    check_start,
)
from batuta.cluster.store import shared_memory_folder
from batuta.errors import ConfigurationError
from batuta.orchestrator import Orchestrator
from batuta.socket_folder import MAX_TEMPORARY_FOLDER_BYTES, prepare_socket_folder
from tests.support.checkout import PYTHON_PATH

PROGRAM = """
import sys
from pathlib import Path
from tests.orchestrator.map_program import run_program
if __name__ == "__main__":
    for mode in ("local_dask", "multiprocessing", "sequential"):
        run_program({"mode": mode}, Path(sys.argv[1]) / mode)
"""
"""Dask first: workers of both modes then come from one forkserver."""

PLACES: dict[str, dict[str, str]] = {
    "long temporary folder": {"TMPDIR": "{tmp}/" + "x" * 100},
    "no temporary folder": {"TMPDIR": "/nonexistent"},
}
NO_ENVIRONMENT: dict[str, str] = {}


@pytest.mark.parametrize("place", PLACES)
def test_a_program_computes_in_every_mode_whatever_its_environment(
    place: str, tmp_path: Path
) -> None:
    done = run(tmp_path, PLACES[place])
    assert not done.returncode, done.stderr


def test_a_program_computes_in_every_mode_without_standard_streams_or_environment(
    tmp_path: Path,
) -> None:
    done = run(tmp_path, NO_ENVIRONMENT, closed="<&- >&- 2>&-")
    assert not done.returncode
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"sequential", "local_dask"}


def run(
    folder: Path, place: dict[str, str], closed: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Run a program that computes maps, in an environment of nothing else than `place`."""
    (folder / "program.py").write_text(PROGRAM)
    (folder / "out").mkdir()
    environment = {name: value.format(tmp=folder) for name, value in place.items()}
    for value in environment.values():
        if value.startswith(str(folder)):
            Path(value).mkdir(parents=True)
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "program.py", "out"],
        cwd=folder,
        env={"PYTHONPATH": PYTHON_PATH, **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.fixture
def removed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "removed"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()


@pytest.mark.usefixtures("removed_folder")
@pytest.mark.parametrize("mode", ["multiprocessing", "local_dask"])
def test_a_removed_current_folder_is_told_before_any_task(mode: str, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="the current folder does not exist any more"):
        create_cluster(check_configuration({"mode": mode}), tmp_path)


@pytest.mark.usefixtures("removed_folder")
def test_only_relative_paths_need_a_current_folder(tmp_path: Path) -> None:
    for arguments in ({"out_dir": "out"}, {"out_json_path": "out.json"}):
        with pytest.raises(ConfigurationError, match=r"'out.*' given, an absolute path expected"):
            Orchestrator({"mode": "sequential"}, **arguments)  # type: ignore[arg-type]
    with Orchestrator({"mode": "sequential"}) as orchestrator:
        with pytest.raises(ConfigurationError, match="tmp_dir: 'scratch' given"):
            orchestrator.add_to_clean("scratch")
        orchestrator.add_to_clean(tmp_path / "scratch")


class FullStream(io.StringIO):
    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_stream_that_cannot_be_flushed_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stream in (None, object(), io.StringIO()):
        monkeypatch.setattr(sys, name, stream)
        check_start()
    monkeypatch.setattr(sys, name, FullStream())
    with pytest.raises(ClusterError, match=rf"sys\.{name} cannot be written to: OSError: .*space"):
        check_start()
    monkeypatch.undo()


@pytest.mark.parametrize("mp_mode", ["forkserver", "fork", "spawn"])
def test_no_cluster_is_made_whose_workers_could_not_start(
    mp_mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", FullStream())
    with pytest.raises(ClusterError, match=r"sys\.stdout cannot be written to"):
        create_cluster(check_configuration({"mode": "multiprocessing", "mp_mode": mp_mode}), None)
    monkeypatch.undo()


def test_without_a_short_folder_the_temporary_one_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = "/" + "x" * (MAX_TEMPORARY_FOLDER_BYTES + 10)
    monkeypatch.setattr(tempfile, "tempdir", long)
    monkeypatch.setattr("batuta.socket_folder._SHORT_FOLDERS", ())
    monkeypatch.setattr(multiprocessing.util, "get_temp_dir", lambda: f"{long}/pymp-12345678")
    with pytest.raises(
        ConfigurationError, match=r"TMPDIR: '/xxx.*' given, a path of at most \d+ bytes"
    ):
        prepare_socket_folder()
    assert tempfile.tempdir == long


def test_semaphores_that_cannot_be_made_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    check_semaphores()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", full)
    with pytest.raises(ClusterError, match=r"semaphores.*No space left.*/dev/shm"):
        check_semaphores()


def test_a_store_on_a_full_disk_names_its_folder_and_memory_that_is_full_costs_only_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = shared_memory_folder()
    make = tempfile.mkdtemp

    def full(*, prefix: str, dir: Path) -> str:  # noqa: A002 - as of tempfile
        if dir == shared:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(dir))
        return make(prefix=prefix, dir=dir)

    monkeypatch.setattr("batuta.cluster.store.tempfile.mkdtemp", full)
    conf = {"mode": "multiprocessing", "nb_workers": 1}
    with pytest.raises(NoSpaceError, match=f"no space left in {shared}"):
        create_cluster(check_configuration(conf | {"dump_to_disk": False}), tmp_path)
    cluster = create_cluster(check_configuration(conf), tmp_path)
    delayed = cluster.create_task(abs)(-1)
    assert list(cluster.future_iterator(cluster.start_tasks([delayed]))) == [1]
    cluster.cleanup()
