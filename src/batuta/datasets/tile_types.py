"""The types of tiles that programs make, with the libraries that these take.

xarray and pandas are imported here, and dask is kept out of xarray. What maps functions over
rasters does without: see `batuta.datasets.array_tile`.
"""

from typing import TypeAlias

import pandas as pd
import xarray as xr

from batuta.datasets.lazy_dask import make_dask_lazy
from batuta.datasets.tiles import CarsDict

Tile: TypeAlias = xr.Dataset | pd.DataFrame | CarsDict

make_dask_lazy()
