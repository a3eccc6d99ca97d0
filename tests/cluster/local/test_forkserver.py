"""The forkserver: what workers need is imported before they start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os
from pathlib import Path

import {neighbour}
from batuta.cluster import check_configuration, create_cluster

with open("reads", "a") as stream:
    stream.write("x")

if __name__ == "__main__":
    for conf in {configurations}:
        cluster = create_cluster(check_configuration(conf), Path("out"))
        delayed = [cluster.create_task({neighbour}.triple)(n) for n in range(6)]
        futures = cluster.start_tasks(delayed)
        print(sorted(cluster.future_iterator(futures)))
        cluster.cleanup()
"""

NEIGHBOUR = """
with open("imports", "a") as stream:
    stream.write("x")


def triple(number):
    return 3 * number
"""


CONFIGURATIONS = [{"mode": "local_dask"}, {"mode": "multiprocessing", "max_tasks_per_worker": 1}]
"""In this order, one forkserver has what workers of both need."""


@pytest.mark.parametrize("by_name", [False, True], ids=["script", "module"])
def test_the_script_and_its_neighbours_are_read_once_for_all_workers(
    tmp_path: Path, by_name: bool
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    neighbour = "package_here.tasks" if by_name else "tasks_here"
    where = folder / "package_here" if by_name else folder
    where.mkdir(exist_ok=True)
    (where / f"{neighbour.rpartition('.')[2]}.py").write_text(NEIGHBOUR)
    script = SCRIPT.format(neighbour=neighbour, configurations=CONFIGURATIONS)
    (where / "main.py").write_text(script)
    command = ["-m", "package_here.main"] if by_name else [str(folder / "main.py")]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder if by_name else tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == 2 * "[0, 3, 6, 9, 12, 15]\n", done.stderr
    written = folder if by_name else tmp_path
    # Once in the main process, once in the forkserver.
    assert (written / "imports").read_text() == "xx"
    assert (written / "reads").read_text() == "xx"


ONE_MODE_AFTER_ANOTHER = """
import multiprocessing
import os
from pathlib import Path

from batuta.cluster import check_configuration, create_cluster


def how(_name):
    return "spawned" if "spawn_main" in Path("/proc/self/cmdline").read_text() else "forked"


if __name__ == "__main__":
    os.environ["BATUTA_TEST"] = "before"
    if {own}:
        process = multiprocessing.get_context("forkserver").Process(target=print)
        process.start()
        process.join()
    for mode in {modes}:
        cluster = create_cluster(check_configuration({{"mode": mode}}), Path("out"))
        names = ["BATUTA_TEST", "OMP_NUM_THREADS"]
        delayed = [cluster.create_task(os.getenv)(name) for name in names]
        delayed.append(cluster.create_task(how)(""))
        values = cluster.future_iterator(cluster.start_tasks(delayed))
        print(mode, *sorted(map(str, values)))
        cluster.cleanup()
        os.environ["BATUTA_TEST"] = "after"
"""


@pytest.mark.parametrize("own", [False, True], ids=["", "the program's forkserver"])
@pytest.mark.parametrize(
    "modes",
    [("multiprocessing", "local_dask"), ("local_dask", "local_dask")],
    ids=["another's forkserver", "its own forkserver"],
)
def test_dask_workers_have_the_environment_of_now_and_the_threads_of_dask(
    tmp_path: Path, modes: tuple[str, str], own: bool
) -> None:
    how = "spawned" if own or modes[0] != "local_dask" else "forked"
    (tmp_path / "main.py").write_text(ONE_MODE_AFTER_ANOTHER.format(modes=modes, own=own))
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == f"local_dask 1 after {how}", done.stdout + done.stderr


ENVIRONMENT_OF_NOW = """
import os
from pathlib import Path

from batuta.cluster import check_configuration, create_cluster

if __name__ == "__main__":
    os.environ["BATUTA_TEST_GONE"] = "before"
    for mp_mode in {mp_modes}:
        for value in ("first", "second"):
            os.environ["BATUTA_TEST"] = value
            conf = {{"mode": "multiprocessing", "mp_mode": mp_mode}}
            cluster = create_cluster(check_configuration(conf), Path("out"))
            os.environ.pop("BATUTA_TEST_GONE", None)
            names = ("BATUTA_TEST", "BATUTA_TEST_GONE")
            delayed = [cluster.create_task(os.getenv)(name, "") for name in names]
            print(*sorted(cluster.future_iterator(cluster.start_tasks(delayed))))
            cluster.cleanup()
"""


def test_workers_have_the_environment_that_the_program_had_when_it_made_the_cluster(
    tmp_path: Path,
) -> None:
    program = ENVIRONMENT_OF_NOW.format(mp_modes=("forkserver", "fork", "spawn"))
    (tmp_path / "main.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    expected = [["before", "first"], ["second"]] + 2 * [["first"], ["second"]]
    assert lines == expected, done.stderr
