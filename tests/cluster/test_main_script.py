"""The main script, which workers import: without a name, without a guard, or gone."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from batuta.cluster import ClusterError, check_configuration, create_cluster
from batuta.cluster.main_script import MainNames, prepare_main_script
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
    for conf in json.loads(sys.argv[1]):
        cluster = create_cluster(check_configuration(conf), Path("out"))
        try:
            double_three = cluster.create_task(functools.partial(double, 3))()
            print(list(cluster.future_iterator(cluster.start_tasks([double_three]))))
        finally:
            cluster.cleanup()
"""
GUARDED = PROGRAM + 'if __name__ == "__main__":\n    compute()\n'
UNGUARDED = PROGRAM + "compute()\n"
# A program with a thread is not copied: workers of a new interpreter import the script.
THREADED = (
    "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
)
IN_GUARD = f'if __name__ == "__main__":\n{textwrap.indent(PROGRAM, "    ")}\n    compute()\n'

FORKSERVER = {"mode": "multiprocessing", "nb_workers": 1}
SPAWN = FORKSERVER | {"mp_mode": "spawn"}
FORK = FORKSERVER | {"mp_mode": "fork"}
LOCAL_DASK = {"mode": "local_dask", "nb_workers": 1}


def run(folder: Path, way: str, *confs: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
    """Run the program on clusters, without giving it a name that workers could import."""
    (folder / "package").mkdir()
    (folder / "package" / "__main__.py").write_text(GUARDED)
    (folder / "unguarded.py").write_text(UNGUARDED)
    (folder / "unguarded_threaded.py").write_text(THREADED + UNGUARDED)
    (folder / "in_guard.py").write_text(IN_GUARD)
    arguments = {
        "standard input": ["-"],
        "command": ["-c", GUARDED],
        "package": ["-m", "package"],
        "folder": ["package"],
        "unguarded": ["unguarded.py"],
        "unguarded, threaded": ["unguarded_threaded.py"],
        "in guard": ["in_guard.py"],
    }[way]
    return subprocess.run(
        [sys.executable, *arguments, json.dumps(confs)],
        cwd=folder,
        env={"PYTHONPATH": PYTHON_PATH, "PATH": "/usr/bin:/bin"},
        input=GUARDED if way == "standard input" else "",
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.parametrize("way", ["standard input", "command", "package", "folder", "in guard"])
def test_a_script_runs_where_workers_cannot_import_what_it_defines(
    way: str, tmp_path: Path
) -> None:
    done = run(tmp_path, way, FORKSERVER, SPAWN, FORK)
    assert done.stdout == 3 * "[6]\n", done.stderr


@pytest.mark.parametrize("way", ["standard input", "package"])
def test_so_it_does_on_dask(way: str, tmp_path: Path) -> None:
    done = run(tmp_path, way, LOCAL_DASK)
    assert done.stdout == "[6]\n", done.stderr


@pytest.mark.parametrize(
    "conf", [FORKSERVER, SPAWN, LOCAL_DASK], ids=["forkserver", "spawn", "local_dask"]
)
def test_a_script_without_its_guard_is_told_so_once(conf: dict[str, Any], tmp_path: Path) -> None:
    done = run(tmp_path, "unguarded, threaded", conf)
    assert done.returncode == 1
    assert "workers cannot start" in done.stderr
    assert 'a script that computes needs `if __name__ == "__main__":`' in done.stderr
    assert "bootstrapping" not in done.stderr  # what `multiprocessing` says, in each worker


def test_a_script_without_its_guard_runs_where_workers_come_from_a_copy(tmp_path: Path) -> None:
    done = run(tmp_path, "unguarded", FORKSERVER)
    assert done.stdout == "[6]\n", done.stderr


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
def test_values_of_its_classes_go_to_workers_and_come_back_as_they_were(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster()
    (kept,), text = compute(
        cluster,
        [cluster.create_task(list)((_Main.Kept(),)), cluster.create_task(len)("__main__")],
    )
    assert isinstance(kept, _Main.Kept)
    assert text == 8


SCRIPT = """
import sys
def outside(): ...
try:
    class Tried: ...
except ImportError:
    Caught = None
else:
    made = other = lambda: None
if __name__ == "__main__":
    def inside(): ...
    class Inside: ...
elif sys.argv:
    def imported(): ...
"""


def test_what_workers_find_of_a_script_is_what_it_defines_outside_its_guard(
    unnamed_main: ModuleType, tmp_path: Path
) -> None:
    assert MainNames.now().found == frozenset()
    (tmp_path / "script.py").write_text(SCRIPT)
    unnamed_main.__file__ = str(tmp_path / "script.py")
    names = MainNames.now()
    assert names.found == frozenset({"outside", "Tried", "Caught", "made", "other", "imported"})
    assert names.has(add)
    exec(compile(SCRIPT, "script.py", "exec"), vars(unnamed_main))  # noqa: S102 - above
    assert names.has(vars(unnamed_main)["Tried"])
    assert not names.has(vars(unnamed_main)["Inside"])
    assert names.if_any_lacks() is names
    exec("def outside(): ...", vars(unnamed_main))  # noqa: S102 - as typed at a prompt
    assert not names.has(vars(unnamed_main)["outside"])


def test_a_script_that_was_removed_is_named(unnamed_main: ModuleType, tmp_path: Path) -> None:
    unnamed_main.__file__ = str(tmp_path / "gone.py")
    with pytest.raises(ClusterError, match=r"gone.py does not exist any more"):
        create_cluster(check_configuration(FORKSERVER), tmp_path)
    unnamed_main.__file__ = "<stdin>"
    prepare_main_script()
    assert getattr(unnamed_main, "__file__", None) is None
