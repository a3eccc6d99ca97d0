"""The store of results."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from batuta.cluster.errors import ClusterError, NoSpaceError
from batuta.cluster.local.cluster import MultiprocessingCluster
from batuta.cluster.store import (
    MAX_INLINE_BYTES,
    ResultStore,
    fetch,
    private_temporary_folder,
    put,
)
from batuta.datasets import CarsDict
from tests.cluster.functions import zeros


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"a": [1, "two"]},
        np.arange(100_000, dtype=np.float32).reshape(100, -1),
        np.zeros((0, 5)),
        np.asfortranarray(np.arange(20_000.0).reshape(100, 200)),
        b"x" * 100_000,
    ],
    ids=["none", "plain", "array", "empty", "fortran", "bytes"],
)
def test_a_value_comes_back_as_it_was(tmp_path: Path, value: object) -> None:
    found = fetch(put(value, str(tmp_path)))
    np.testing.assert_equal(found, value)


def test_tiles_come_back_with_their_attributes(tmp_path: Path) -> None:
    arrays = xr.Dataset({"z": (("row", "col"), np.ones((100, 100)))}, attrs={"window": {"a": 1}})
    xr.testing.assert_identical(fetch(put(arrays, str(tmp_path))), arrays)
    points = pd.DataFrame({"x": np.arange(5000.0), "name": ["é"] * 5000})
    points.attrs["saving_info"] = {"cars_ds_id": 3}
    found = fetch(put(points, str(tmp_path)))
    pd.testing.assert_frame_equal(found, points)
    assert found.attrs == points.attrs
    assert fetch(put(CarsDict({"a": np.ones(9999)}, {"b": 1}), str(tmp_path))).attrs == {
        "attributes": {"b": 1}
    }


def test_arrays_are_mapped_writable_and_aligned_and_private(tmp_path: Path) -> None:
    stored = put([np.zeros(10_000), np.zeros(3, np.uint8), np.zeros(10_000)], str(tmp_path))
    first, *_, last = fetch(stored)
    first[:] = 1
    assert last.ctypes.data % 64 == 0
    assert not fetch(stored)[0].any()
    assert not first.flags.owndata


def test_small_values_need_no_file(tmp_path: Path) -> None:
    assert put(np.zeros(10), str(tmp_path)).path is None
    assert put(b"x" * MAX_INLINE_BYTES, str(tmp_path)).path is not None


def test_what_was_mapped_outlives_its_file(tmp_path: Path) -> None:
    stored = put(np.arange(10_000), str(tmp_path))
    found = fetch(stored)
    stored.discard()
    assert not list(tmp_path.iterdir())
    assert found.sum() == 49_995_000


def test_more_results_than_files_may_be_open_can_be_held(tmp_path: Path) -> None:
    script = """
import resource, sys, numpy as np
from batuta.cluster.store import fetch, put
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
stored = put(np.arange(10_000), sys.argv[1])
held = [fetch(stored) for _ in range(200)]
assert all(each.sum() == 49_995_000 for each in held)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=60)


def test_the_folder_is_for_this_user_only_and_goes_with_the_store(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "tmp_save_disk")
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    store.close()
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_is_removed_and_what_a_living_one_holds_is_not(
    tmp_path: Path,
) -> None:
    living = ResultStore(tmp_path)
    script = """
import os, pathlib, sys
from batuta.cluster.store import ResultStore, put
store = ResultStore(pathlib.Path(sys.argv[1]))
put(bytes(100_000), str(store.folder))
os._exit(1)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=60)
    assert len(list(tmp_path.iterdir())) == 2
    fresh = ResultStore(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {living.folder.name, fresh.folder.name}
    living.close()
    fresh.close()


def test_a_result_that_cannot_be_written_leaves_no_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("batuta.cluster.store._write", full)
    folder = tmp_path / "results"
    folder.mkdir()
    with pytest.raises(NoSpaceError, match=f"no space left in {tmp_path}"):
        put(bytes(100_000), str(folder))
    assert not list(folder.iterdir())


def test_a_result_is_let_go_when_the_next_one_is_asked_for(cluster: MultiprocessingCluster) -> None:
    delayed = [cluster.create_task(zeros)(100_000) for _ in range(20)]
    for future in cluster.as_completed(cluster.start_tasks(delayed)):
        assert future.result().nbytes == 400_000
        maps = Path("/proc/self/maps").read_text().splitlines()
        assert sum("/batuta-" in line and "heartbeat" not in line for line in maps) == 1


def test_runs_that_start_and_end_together_do_not_disturb_each_other(tmp_path: Path) -> None:
    def loop(_: int) -> None:
        for _ in range(100):
            store = ResultStore(tmp_path / "shared")
            assert store.folder.is_dir()
            store.close()

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(loop, range(4))) == [None] * 4


def test_a_temporary_folder_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    name = f"results-{os.getuid()}"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ClusterError, match=f"{name} is not a folder of this user"):
        private_temporary_folder("results")
    (tmp_path / name).unlink()
    assert stat.S_IMODE(private_temporary_folder("results").stat().st_mode) == 0o700
