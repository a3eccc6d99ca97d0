"""Imported by the forkserver alone: what libraries put off until they are first used.

The first Dataset of a process has xarray look for every array library that is installed, a
quarter of a second: paid here once, rather than by each worker.
"""

import pickle

import numpy as np
import pandas as pd
import xarray as xr

_tile = xr.Dataset({"value": (("row", "col"), np.random.default_rng(0).random((2, 2)))})
pickle.dumps(_tile + _tile["value"].mean())
pickle.dumps(pd.DataFrame({"value": [0.0]}))
