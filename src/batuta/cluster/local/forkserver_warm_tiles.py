"""Uses xarray and pandas once, in the forkserver, for what they initialise on first use.

The first Dataset of a process makes xarray search for every array library that is installed, which
takes a while: here once, rather than in each worker. Dask workers that no forkserver starts import
this in a thread.
"""

import pickle

import numpy as np
import pandas as pd
import xarray as xr

import batuta.cluster.local.forkserver_warm
import batuta.datasets.for_programs  # noqa: F401 - before the first Dataset: without dask

_tile = xr.Dataset({"value": (("row", "col"), np.random.default_rng(0).random((2, 2)))})
pickle.dumps(_tile + _tile["value"].mean())
pickle.dumps(pd.DataFrame({"value": [0.0]}))
