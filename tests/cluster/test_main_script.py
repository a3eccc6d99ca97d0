"""The main script, which workers import: without a name, without a guard, or gone."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from batuta.cluster import ClusterError, check_configuration, create_cluster
from batuta.cluster.main_script import prepare_main_script
from batuta.errors import ConfigurationError
from tests.cluster.conftest import MakeCluster, compute
from tests.cluster.functions import add
from tests.support.checkout import PYTHON_PATH

PROGRAM = """
import functools, json, sys
from pathlib import Path
from batuta.cluster import check_configuration, create_cluster
def double(n):
    return 2 * n
def compute():
    cluster = create_cluster(check_configuration(json.loads(sys.argv[1])), Path("out"))
    try:
        double_three = cluster.create_task(functools.partial(double, 3))()
        print(list(cluster.future_iterator(cluster.start_tasks([double_three]))))
    finally:
        cluster.cleanup()
"""
GUARDED = PROGRAM + 'if __name__ == "__main__":\n    compute()\n'
UNGUARDED = PROGRAM + "compute()\n"

FORKSERVER = {"mode": "multiprocessing", "nb_workers": 1}
SPAWN = FORKSERVER | {"mp_mode": "spawn"}
FORK = FORKSERVER | {"mp_mode": "fork"}
LOCAL_DASK = {"mode": "local_dask", "nb_workers": 1}


def run(folder: Path, way: str, conf: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
    """Run the program without giving it a name that workers could import."""
    (folder / "package").mkdir()
    (folder / "package" / "__main__.py").write_text(GUARDED)
    (folder / "unguarded.py").write_text(UNGUARDED)
    arguments = {
        "standard input": ["-"],
        "command": ["-c", GUARDED],
        "package": ["-m", "package"],
        "folder": ["package"],
        "unguarded": ["unguarded.py"],
    }[way]
    return subprocess.run(
        [sys.executable, *arguments, json.dumps(conf)],
        cwd=folder,
        env={"PYTHONPATH": PYTHON_PATH, "PATH": "/usr/bin:/bin"},
        input=GUARDED if way == "standard input" else "",
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.parametrize("way", ["standard input", "command", "package", "folder"])
@pytest.mark.parametrize("conf", [FORKSERVER, SPAWN], ids=["forkserver", "spawn"])
def test_a_task_of_a_script_that_workers_cannot_import_is_refused_before_any_is_computed(
    way: str, conf: dict[str, Any], tmp_path: Path
) -> None:
    done = run(tmp_path, way, conf)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "batuta.errors.ConfigurationError: func: double is of a program that workers cannot import"
    )
    assert last.endswith("move it to a module; or use mp_mode: fork, or mode: local_dask")
    assert done.stderr.count("Traceback") == 1


@pytest.mark.parametrize("way", ["standard input", "package"])
@pytest.mark.parametrize("conf", [FORK, LOCAL_DASK], ids=["fork", "local_dask"])
def test_where_workers_need_not_import_the_script_it_needs_no_name(
    way: str, conf: dict[str, Any], tmp_path: Path
) -> None:
    done = run(tmp_path, way, conf)
    assert done.stdout == "[6]\n", done.stderr


@pytest.mark.parametrize(
    "conf", [FORKSERVER, SPAWN, LOCAL_DASK], ids=["forkserver", "spawn", "local_dask"]
)
def test_a_script_without_its_guard_is_told_so_once(conf: dict[str, Any], tmp_path: Path) -> None:
    done = run(tmp_path, "unguarded", conf)
    assert done.returncode == 1
    assert "workers cannot start" in done.stderr
    assert 'a script that computes needs `if __name__ == "__main__":`' in done.stderr
    assert "bootstrapping" not in done.stderr  # what `multiprocessing` says, in each worker


class _Main(ModuleType):
    """Stands for a main script from standard input."""

    class Kept:
        """A class of it."""


_Main.Kept.__module__ = "__main__"
_Main.Kept.__qualname__ = "Kept"


@pytest.fixture
def unnamed_main(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    main = _Main("__main__")
    main.__spec__ = None
    monkeypatch.setitem(sys.modules, "__main__", main)
    return main


@pytest.mark.usefixtures("unnamed_main")
def test_arguments_of_such_a_script_fail_their_task_alone(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    refused, text, fine = compute(
        cluster,
        [
            cluster.create_task(add)(_Main.Kept()),
            cluster.create_task(len)("__main__"),
            cluster.create_task(add)(1, 2),
        ],
    )
    assert "cannot be sent to a worker: ClusterError: Kept is of a program that" in str(refused)
    assert (text, fine) == (8, 3)


def test_what_is_called_is_refused_whatever_it_is(
    unnamed_main: ModuleType, make_cluster: MakeCluster
) -> None:
    cluster = make_cluster()
    with pytest.raises(ConfigurationError, match="func: Kept is of a program"):
        cluster.create_task(_Main.Kept)
    unnamed_main.__file__ = __file__
    cluster.create_task(_Main.Kept)


def test_a_script_that_was_removed_is_named(unnamed_main: ModuleType, tmp_path: Path) -> None:
    unnamed_main.__file__ = str(tmp_path / "gone.py")
    with pytest.raises(ClusterError, match=r"gone.py does not exist any more"):
        create_cluster(check_configuration(FORKSERVER), tmp_path)
    unnamed_main.__file__ = "<stdin>"
    prepare_main_script()
    assert getattr(unnamed_main, "__file__", None) is None
