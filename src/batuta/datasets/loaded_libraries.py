"""Whether a value is of a library that may not be imported, without importing it.

Nobody can have an array of xarray before xarray was imported: until then, there is no such class.
"""

import sys
from typing import TYPE_CHECKING, Any, Final, TypeGuard

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

XARRAY: Final = "xarray"
PANDAS: Final = "pandas"


def loaded_class(library: str, name: str) -> type[Any] | None:
    """Return a class of a library; None as long as the library is not imported."""
    found: type[Any] | None = getattr(sys.modules.get(library), name, None)
    return found


def is_dataset(value: object) -> "TypeGuard[xr.Dataset]":
    """Return whether a value is a Dataset of xarray."""
    return _is_a(value, XARRAY, "Dataset")


def is_data_array(value: object) -> "TypeGuard[xr.DataArray]":
    """Return whether a value is a DataArray of xarray."""
    return _is_a(value, XARRAY, "DataArray")


def is_data_frame(value: object) -> "TypeGuard[pd.DataFrame]":
    """Return whether a value is a DataFrame of pandas."""
    return _is_a(value, PANDAS, "DataFrame")


def _is_a(value: object, library: str, name: str) -> bool:
    found = loaded_class(library, name)
    return found is not None and isinstance(value, found)
