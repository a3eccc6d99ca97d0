"""Uses libraries once, in the forkserver, for what they initialise on first use.

The first Dataset of a process makes xarray search for every array library that is installed, which
takes a while: here once, rather than in each worker. Dask workers that no forkserver starts import
this in a thread.
"""

import pickle

import numpy as np
import pandas as pd
import xarray as xr

_tile = xr.Dataset({"value": (("row", "col"), np.random.default_rng(0).random((2, 2)))})
pickle.dumps(_tile + _tile["value"].mean())
pickle.dumps(pd.DataFrame({"value": [0.0]}))

# Once a large block has been freed, the C library reuses blocks up to that size instead of
# returning each to the system (mallopt(3), M_MMAP_THRESHOLD, "dynamic"): the arrays of a tile get
# the pages of the tile before.
np.empty(31 << 20, dtype=np.uint8)
