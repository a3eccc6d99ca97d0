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

# Once a large block was freed, the C library keeps blocks up to that size for the next ones,
# instead of giving each back to the system (mallopt(3), M_MMAP_THRESHOLD, "dynamic"): the arrays of
# a tile take the pages of the tile before.
np.empty(31 << 20, dtype=np.uint8)
