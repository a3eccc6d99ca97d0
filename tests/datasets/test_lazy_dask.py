"""dask is imported by programs that use it, and by no others."""

import subprocess
import sys

import pytest

from tests.support.checkout import PYTHON_PATH

PROGRAM = """
import pickle, sys
import batuta
import numpy as np
import xarray as xr
from batuta.datasets import CarsDataset

tile = xr.Dataset()
tile["z"] = (("row", "col"), np.zeros((4, 4)))
tile = pickle.loads(pickle.dumps(tile + tile["z"].mean()))
tile["z"].transpose().values
print("dask.array" in sys.modules)

import dask.array as da

made = xr.DataArray(da.ones((4, 4), chunks=2), dims=("row", "col"))
print(type(made.data).__module__, made.chunks, float((made + tile["z"]).sum()))
print(type(tile.chunk(2)["z"].data).__module__, tile["z"].chunks)
"""


def test_xarray_imports_dask_only_for_arrays_of_dask_which_it_knows() -> None:
    pytest.importorskip("dask.array", reason="needs dask")
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PYTHONPATH": PYTHON_PATH},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.splitlines() == [
        "False",
        "dask.array.core ((2, 2), (2, 2)) 16.0",
        "dask.array.core None",
    ]
