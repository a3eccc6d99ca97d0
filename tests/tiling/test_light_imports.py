"""What maps of rasters import: neither xarray nor what it takes, in no process, unless asked."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.checkout import PYTHON_PATH
from tests.tiling.rasters import pixels_of, write_raster

PROGRAM = """
import os
import sys
import threading

import numpy as np

import batuta
{imports}

HEAVY = {{"xarray", "pandas", "pyarrow", "dask.array", "pydantic", "tqdm"}}


def loaded():
    return frozenset(HEAVY & set(sys.modules))


def doubled(pixels):
    with open("seen-by-tasks", "a") as stream:
        stream.write(f"{{os.getpid()}} {{','.join(sorted(loaded()))}}\\n")
    return pixels * 2


def of_tile(pixels):
    return {{(os.getpid(), loaded())}}


def both(one, two):
    return one | two


if __name__ == "__main__":
    conf = {conf}
    {before}
    batuta.map_tiles(doubled, "in.tif", out="out.tif", tile=32, overlap=1, mode=conf, **{options})
    found = batuta.reduce_tiles(of_tile, "in.tif", combine=both, tile=32, mode=conf)
    print(sorted({{name for _, names in found for name in names}}))
    print(sorted(loaded()))
    print(os.getpid() in {{pid for pid, _ in found}})
"""

SEQUENTIAL = {"mode": "sequential"}
WORKERS = {"mode": "multiprocessing", "nb_workers": 2, "max_tasks_per_worker": 2}
WITH_A_THREAD = "threading.Thread(target=threading.Event().wait, daemon=True).start()"
"""A program that has one is not copied: its workers come from a new interpreter."""


def run(
    folder: Path,
    conf: dict[str, object],
    *,
    imports: str = "",
    before: str = "pass",
    options: str = "{}",
) -> list[str]:
    """Run a program that maps a raster; return what it prints."""
    write_raster(folder / "in.tif", np.arange(96 * 64, dtype=np.float32).reshape(96, 64), nodata=7)
    program = PROGRAM.format(conf=conf, imports=imports, before=before, options=options)
    (folder / "main.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=folder,
        env={"PYTHONPATH": PYTHON_PATH},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def seen_by_tasks(folder: Path) -> dict[int, str]:
    """Return by process what those of the heavy libraries were that tasks found imported."""
    lines = (folder / "seen-by-tasks").read_text().splitlines()
    return {int(pid): names for pid, _, names in (each.partition(" ") for each in lines)}


@pytest.mark.parametrize(
    ("conf", "before"),
    [(SEQUENTIAL, "pass"), (WORKERS, "pass"), (WORKERS, WITH_A_THREAD)],
    ids=["sequential", "copied", "new interpreter"],
)
def test_maps_of_numpy_arrays_import_neither_xarray_nor_pandas_in_any_process(
    tmp_path: Path, conf: dict[str, object], before: str
) -> None:
    in_tasks, in_main, in_this_process = run(tmp_path, conf, before=before)
    assert in_tasks == in_main == "[]"
    assert in_this_process == str(conf is SEQUENTIAL)
    seen = seen_by_tasks(tmp_path)
    assert set(seen.values()) == {""}
    assert (len(seen) == 1) == (conf is SEQUENTIAL)
    whole = np.arange(96 * 64, dtype=np.float32).reshape(96, 64)
    np.testing.assert_array_equal(
        pixels_of(tmp_path / "out.tif"), np.where(whole == 7, np.nan, whole * 2)
    )


@pytest.mark.parametrize("before", ["pass", WITH_A_THREAD], ids=["copied", "new interpreter"])
@pytest.mark.parametrize("how", ["imports", "arrays"])
def test_workers_have_xarray_before_their_first_task_where_the_program_uses_it(
    tmp_path: Path, before: str, how: str
) -> None:
    asked: dict[str, str] = (
        {"imports": "import xarray"} if how == "imports" else {"options": "{'arrays': 'xarray'}"}
    )
    run(tmp_path, WORKERS, before=before, **asked)
    seen = seen_by_tasks(tmp_path)
    assert len(seen) > 2
    for names in seen.values():
        assert {"xarray", "pandas"} <= set(names.split(","))
        assert "dask.array" not in names.split(",")


AFTER_A_MAP = """
import sys
import threading
import numpy as np
import batuta


def ends(pixels):
    return {"xarray" in sys.modules}



def had_it(_):
    from batuta.datasets import CarsDict
    return CarsDict({"had": "xarray" in sys.modules and "pandas" in sys.modules})


def both(one, two):
    return one | two


if __name__ == "__main__":
    conf = {"mode": "multiprocessing", "nb_workers": 2, "max_tasks_per_worker": 1}
    BEFORE
    print(batuta.reduce_tiles(ends, "in.tif", combine=both, tile=32, mode=conf))

    from batuta.datasets import CarsDataset
    from batuta.orchestrator import Orchestrator

    dataset = CarsDataset("dict")
    dataset.create_grid(4, 4, 2, 2)
    with Orchestrator(conf) as orchestrator:
        for row, col in dataset.positions():
            dataset[row, col] = orchestrator.cluster.create_task(had_it)(row)
        orchestrator.add_to_replace_lists(dataset)
    print({dataset[position]["had"] for position in dataset.positions()})
    print(batuta.reduce_tiles(ends, "in.tif", combine=both, tile=32, mode=conf))
"""


@pytest.mark.parametrize("before", ["pass", WITH_A_THREAD], ids=["copied", "new interpreter"])
def test_workers_of_tiles_of_xarray_have_it_after_maps_that_had_not(
    tmp_path: Path, before: str
) -> None:
    write_raster(tmp_path / "in.tif", np.zeros((64, 64), dtype=np.float32))
    (tmp_path / "main.py").write_text(AFTER_A_MAP.replace("BEFORE", before))
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": PYTHON_PATH},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout.splitlines() == ["{False}", "{True}", "{True}"], done.stderr
