"""The three programs with libraries that are installed for this comparison alone.

``pip install -r benchmarks/mapping/requirements.in`` installs them, in an environment of their own
that has Batuta too; sides that are not installed are left out.
"""

import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.mapping.programs import FUNCTIONS, INPUTS, MARGIN_PX, NODATA, ZONES, Array
from benchmarks.mapping.sides import TILE_PX, WORKERS, dask_sums

# xarray: rioxarray reads and writes, dask computes


def _opened(folder: Path, program: str) -> list[Any]:
    import rioxarray  # noqa: PLC0415 - each side measures its own imports

    return [
        rioxarray.open_rasterio(folder / name, chunks=TILE_PX, masked=name != "zones.tif").squeeze()
        for name in INPUTS[program]
    ]


def _applied(program: str, arrays: list[Any]) -> Any:
    import dask.array as da  # noqa: PLC0415 - each side measures its own imports
    import xarray as xr  # noqa: PLC0415

    def overlapping(*chunked: Any) -> Any:
        return da.map_overlap(
            FUNCTIONS[program],
            *chunked,
            depth=MARGIN_PX[program],
            boundary="none",
            dtype=np.float32,
            meta=np.empty((0, 0), np.float32),
        )

    return xr.apply_ufunc(overlapping, *arrays, dask="allowed")


def xarray(folder: Path, program: str, side_px: int) -> Array | None:  # noqa: ARG001 - as others
    """Compute with xarray.apply_ufunc on dask's arrays, by threads."""
    import dask as dask_config  # noqa: PLC0415 - each side measures its own imports

    with dask_config.config.set(scheduler="threads", num_workers=WORKERS):
        arrays = _opened(folder, program)
        if program == "zonal":
            return dask_sums([each.data for each in arrays])
        result = _applied(program, arrays).rio.write_nodata(NODATA, encoded=True)
        result.rio.to_raster(folder / "out.tif", tiled=True, lock=threading.Lock(), dtype="float32")
    return None


# odc-geo: the same, written as a cloud-optimised GeoTIFF by several threads


def odc_geo(folder: Path, program: str, side_px: int) -> Array | None:  # noqa: ARG001 - as others
    """Compute with xarray on dask, and write by odc-geo."""
    import dask as dask_config  # noqa: PLC0415 - each side measures its own imports
    from odc.geo.cog import save_cog_with_dask  # noqa: PLC0415

    with dask_config.config.set(scheduler="threads", num_workers=WORKERS):
        result = _applied(program, _opened(folder, program)).fillna(NODATA).astype("float32")
        result.attrs["nodata"] = NODATA
        save_cog_with_dask(
            result, str(folder / "out.tif"), compression="zstd", blocksize=512, stats=False
        ).compute()
    return None


# eoscale: the whole rasters in shared memory


def eoscale(folder: Path, program: str, side_px: int) -> Array | None:  # noqa: ARG001 - as others
    """Compute with eoscale, by processes."""
    import eoscale.eo_executors as executors  # noqa: PLC0415 - each side measures its own imports
    from eoscale.manager import EOContextManager  # noqa: PLC0415

    with EOContextManager(nb_workers=WORKERS, tile_mode=True, tile_max_size=TILE_PX) as manager:
        rasters = [manager.open_raster(str(folder / name)) for name in INPUTS[program]]
        parameters = {"program": program}
        if program == "zonal":
            (total,) = executors.n_images_to_m_scalars(
                rasters,
                _zonal_filter,
                concatenate_filter=_add,
                filter_parameters=parameters,
                nb_output_scalars=1,
                output_scalars=[np.zeros((2, ZONES))],
                context_manager=manager,
            )
            return np.asarray(total)
        (result,) = executors.n_images_to_m_images_filter(
            inputs=rasters,
            image_filter=_image_filter,
            filter_parameters=parameters,
            generate_output_profiles=_output_profile,
            stable_margin=MARGIN_PX[program],
            context_manager=manager,
        )
        manager.write(result, str(folder / "out.tif"))
    return None


def _known(buffers: list[Array], profiles: list[Any]) -> list[Array]:
    """Return the arrays with NaN where they have no value: eoscale gives what is stored."""
    return [
        values[0]
        if profile["nodata"] is None
        else np.where(values[0] == profile["nodata"], np.nan, values[0].astype(np.float32))
        for values, profile in zip(buffers, profiles, strict=True)
    ]


def _image_filter(buffers: list[Array], profiles: list[Any], parameters: dict[str, Any]) -> Array:
    result = FUNCTIONS[parameters["program"]](*_known(buffers, profiles))
    filled: Array = np.where(np.isnan(result), NODATA, result).astype(np.float32)
    return filled


def _zonal_filter(
    buffers: list[Array], profiles: list[Any], parameters: dict[str, Any]
) -> list[Array]:
    values, zones = _known(buffers, profiles)
    known = ~np.isnan(values)
    return [FUNCTIONS[parameters["program"]](values[known], zones[known])]


def _add(totals: list[Array], parts: list[Array], tile: Any) -> None:  # noqa: ARG001 - as it calls
    totals[0] += parts[0]


def _output_profile(profiles: list[Any], parameters: dict[str, Any]) -> Any:  # noqa: ARG001 - as it calls
    profiles[0].update(dtype="float32", nodata=NODATA)
    return profiles[0]


_MODULES: Final = {
    "xarray": ("rioxarray",),
    "odc-geo": ("odc.geo", "tifffile"),
    "eoscale": ("eoscale",),
}
_ALL: Final[dict[str, Callable[[Path, str, int], Array | None]]] = {
    "xarray": xarray,
    "odc-geo": odc_geo,
    "eoscale": eoscale,
}


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False  # not even its parent


LIBRARY_SIDES: Final = {
    side: function
    for side, function in _ALL.items()
    if all(_is_installed(each) for each in _MODULES[side])
}
"""Those that are installed."""
