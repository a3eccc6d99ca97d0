"""Inputs as they are given, a file or an array, checked and described."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from affine import Affine
from rasterio.enums import MaskFlags, Resampling
from rasterio.errors import RasterioIOError

from batuta.datasets import TileError
from batuta.datasets.axes import band_names, in_raster_order
from batuta.datasets.loaded_libraries import is_data_array, is_dataset
from batuta.datasets.profile import read_profile
from batuta.errors import ConfigurationError, describe_value, one_line
from batuta.tiling.bucket_objects import (
    check_folder,
    check_object,
    in_bucket,
    open_raster,
    zarr_store,
)
from batuta.tiling.raster import Pixels, Raster
from batuta.tiling.sources import ArraySource, FileSource, Source, Version, ZarrSource

if TYPE_CHECKING:
    import xarray as xr

ZARR_SUFFIX: Final = ".zarr"
_GEOREFERENCING: Final = "spatial_ref"
"""The coordinate that holds it, by the conventions of CF and GDAL."""
_PACKING: Final = ("scale_factor", "add_offset")
_NODATA_NAMES: Final = ("_FillValue", "nodata", "missing_value")


def open_source(given: Any, name: str) -> Source:
    """Return where the pixels of an input are read.

    Parameters
    ----------
    given : path, DataArray, Dataset of one variable, or array
        The input.
    name : str
        What messages call it.

    Raises
    ------
    ConfigurationError
        In one line, if it is none of these, or cannot be read.
    """
    if isinstance(given, str | os.PathLike):
        return _open_path(os.fspath(given), name)
    if is_dataset(given):
        given = _only_variable(given, name)
    if isinstance(given, np.ndarray):
        _check_axes(given, name)
        if type(given) is np.ndarray:
            return ArraySource(array=given, raster=_raster_of_pixels(given, name, name))
        given = _named_axes(given)  # a masked array, of which xarray has those masked as NaN
    if is_data_array(given):
        return _of_array(given, name)
    raise ConfigurationError(
        f"{name}: {describe_value(given)} given, a raster file, a Zarr array, an xarray or NumPy"
        " array, or a result of map_tiles expected"
    )


def check_resampling(resampling: str | None) -> None:
    """Refuse a resampling that is unknown.

    Raises
    ------
    ConfigurationError
        In one line, with those that are known.
    """
    if resampling is not None and resampling not in Resampling.__members__:
        known = ", ".join(Resampling.__members__)
        given = describe_value(resampling)
        raise ConfigurationError(f"resampling: {given} given, one of {known} expected")


def warped_to(source: Source, target: Raster, resampling: str, name: str) -> Source:
    """Return a source whose pixels are warped to the grid of `target`, tile by tile.

    Raises
    ------
    ConfigurationError
        If it is not a file.
    """
    if not isinstance(source, FileSource):
        raise ConfigurationError(f"{name}: only a raster file is warped to another grid")
    if source.raster.crs is None or target.crs is None:
        raise ConfigurationError(f"{name}: without georeferencing, it cannot be warped")
    raster = replace(
        source.raster,
        height=target.height,
        width=target.width,
        transform=target.transform,
        crs=target.crs,
        rpcs=None,
    )
    return replace(source, raster=raster, resampling=resampling, is_masked=True)


# Files


def _open_path(path: str, name: str) -> Source:
    group = _zarr_group(path)
    if in_bucket(path) and group is None:
        return _open_raster(path, name, check_object(path, name))
    return (
        _open_raster(path, name, _version_of(path))
        if group is None
        else _open_zarr(group, path, name)
    )


def _open_raster(path: str, name: str, version: Version) -> Source:
    try:
        with open_raster(path) as dataset:
            if not dataset.count:
                parts = ", ".join(dataset.subdatasets[:3])
                raise ConfigurationError(f"{name}: {path} has no bands; it contains {parts}")
            return FileSource(
                path=str(Path(path).absolute()) if Path(path).exists() else path,
                raster=_raster_of(dataset, path),
                is_masked=any(
                    MaskFlags.all_valid not in flags for flags in dataset.mask_flag_enums
                ),
                version=version,
            )
    except RasterioIOError as exc:
        raise ConfigurationError(f"{name}: {path} cannot be read: {one_line(exc)}") from exc


def _raster_of(dataset: Any, path: str) -> Raster:
    named = tuple(each or "" for each in dataset.descriptions)
    return Raster(
        name=Path(path).name,
        height=dataset.height,
        width=dataset.width,
        count=dataset.count,
        dtype=dataset.dtypes[0],
        nodata=dataset.nodata,
        transform=None if dataset.transform == Affine.identity() else dataset.transform,
        crs=dataset.crs.to_wkt() if dataset.crs else None,
        rpcs=None if dataset.rpcs is None else dataset.rpcs.to_gdal(),
        block=dataset.block_shapes[0],
        bands=named if all(named) else (),
        tags=dataset.tags(),
        is_banded=dataset.count > 1,
    )


def _version_of(path: str) -> Version:
    try:
        status = Path(path).stat()
    except OSError:
        return None  # nothing of this machine: a name that GDAL takes
    return status.st_size, status.st_mtime_ns


def _version_of_folder(folder: Path) -> Version:
    found = [each.stat() for each in folder.rglob("*") if each.is_file()]
    sizes, times = [each.st_size for each in found], [each.st_mtime_ns for each in found]
    return len(found), sum(sizes), max(times, default=0)


def _zarr_group(path: str) -> str | None:
    """Return the group that a path names, or names an array of; None if it is no Zarr."""
    remote = in_bucket(path)
    for each in (path, path.rpartition("/")[0] if remote else str(Path(path).parent)):
        if Path(each).suffix == ZARR_SUFFIX and (remote or Path(each).is_dir()):
            return each
    return None


def _open_zarr(group: str, path: str, name: str) -> Source:
    import xarray as xr  # noqa: PLC0415 - of Zarr alone

    if in_bucket(group):
        check_folder(group, name)  # what is wrong with it, in its words
    try:
        store = zarr_store(group)
        dataset = xr.open_zarr(store, chunks=None, mask_and_scale=False, consolidated=False)
    except (ImportError, OSError, KeyError, ValueError) as exc:
        raise ConfigurationError(f"{name}: {path} cannot be read: {one_line(exc)}") from exc
    with dataset:
        if Path(path).suffix == ZARR_SUFFIX:
            array = _only_variable(dataset, name)
        elif Path(path).name in dataset:
            array = dataset[Path(path).name]
        else:
            known = ", ".join(map(str, dataset.data_vars))
            raise ConfigurationError(f"{name}: no {Path(path).name!r} in {group}; it has {known}")
        if packed := [key for key in _PACKING if key in array.attrs]:
            raise ConfigurationError(
                f"{name}: {array.name} is stored with {' and '.join(packed)}: open it with xarray,"
                " which decodes it, and give the array"
            )
        raster = _raster_of_array(array, name, Path(group).name)
        chunks = array.encoding.get("chunks")
        block = None if chunks is None else (int(chunks[-2]), int(chunks[-1]))
        folder = f"{group}/{array.name}"
        return ZarrSource(
            group=group if in_bucket(group) else str(Path(group).absolute()),
            variable=str(array.name),
            raster=replace(raster, block=block),
            version=(
                check_folder(folder, name) if in_bucket(group) else _version_of_folder(Path(folder))
            ),
        )


# Arrays


def _of_array(array: "xr.DataArray", name: str) -> Source:
    label = name if array.name is None else str(array.name)
    raster = _raster_of_array(array, name, label)
    return ArraySource(array=in_raster_order(array), raster=raster)


def _raster_of_array(array: "xr.DataArray", name: str, label: str) -> Raster:
    try:
        ordered = in_raster_order(array)
    except TileError as exc:
        raise ConfigurationError(f"{name}: {one_line(exc)}") from exc
    return replace(
        _raster_of_pixels(ordered, name, label),
        nodata=_nodata_of(ordered),
        transform=_transform_of(ordered, name),
        crs=_crs_of(ordered, name),
        bands=band_names(ordered),
    )


def _raster_of_pixels(pixels: "Pixels | xr.DataArray", name: str, label: str) -> Raster:
    if pixels.dtype.kind not in "biufc":
        raise ConfigurationError(f"{name}: an array of {pixels.dtype} given, numbers expected")
    height, width = pixels.shape[-2:]
    if not pixels.size:
        raise ConfigurationError(f"{name}: an empty array given, of {height} x {width} pixels")
    return Raster(
        name=label,
        height=height,
        width=width,
        count=pixels.shape[0] if pixels.ndim == 3 else 1,
        dtype=str(pixels.dtype.newbyteorder("=")),
        is_banded=pixels.ndim == 3,
    )


def _nodata_of(array: "xr.DataArray") -> float | None:
    for key in _NODATA_NAMES:
        value = array.attrs.get(key)  # that of its encoding is of what was decoded
        if value is not None:
            return float(value)
    return None


def _transform_of(array: "xr.DataArray", name: str) -> Affine | None:
    """Return the transform of an array: of its georeferencing, or of evenly spaced coordinates."""
    written = _reference(array).get("GeoTransform") or array.attrs.get("transform")
    if isinstance(written, str):
        return Affine.from_gdal(*map(float, written.split()))
    if written is not None:
        found: Affine = read_profile({"transform": written})["transform"]
        return found
    if any(dim not in array.coords for dim in array.dims[-2:]) or min(array.shape[-2:]) < 2:
        return None
    rows, cols = (array.coords[dim] for dim in array.dims[-2:])
    if rows.ndim != 1 or cols.ndim != 1 or rows.dtype.kind not in "iuf":
        return None
    step_y, step_x = _step(rows, name), _step(cols, name)
    left, top = float(cols[0]) - step_x / 2, float(rows[0]) - step_y / 2
    return Affine(step_x, 0, left, 0, step_y, top)


def _step(coordinate: "xr.DataArray", name: str) -> float:
    values = coordinate.to_numpy().astype(np.float64)
    step = (values[-1] - values[0]) / (len(values) - 1)
    if not np.allclose(np.diff(values), step, rtol=1e-3):
        raise ConfigurationError(f"{name}: coordinates {coordinate.name} are not evenly spaced")
    return float(step)


def _crs_of(array: "xr.DataArray", name: str) -> str | None:
    reference = _reference(array)
    given = reference.get("crs_wkt") or reference.get("spatial_ref") or array.attrs.get("crs")
    if given is None:
        return None
    try:
        return str(read_profile({"crs": given})["crs"].to_wkt())
    except TileError as exc:
        raise ConfigurationError(f"{name}: {one_line(exc)}") from exc


def _reference(array: "xr.DataArray") -> dict[str, Any]:
    found = array.coords.get(_GEOREFERENCING)
    return {} if found is None else dict(found.attrs)


def _check_axes(array: Any, name: str) -> None:
    if array.ndim not in {2, 3}:
        raise ConfigurationError(
            f"{name}: an array of {array.ndim} dimensions given, (rows, columns) or"
            " (bands, rows, columns) expected"
        )


def _named_axes(array: Any) -> "xr.DataArray":
    import xarray as xr  # noqa: PLC0415 - of such arrays alone

    return xr.DataArray(array, dims=("band", "y", "x")[-array.ndim :])


def _only_variable(dataset: "xr.Dataset", name: str) -> "xr.DataArray":
    variables = [each for each in dataset.data_vars if each != _GEOREFERENCING]
    if len(variables) != 1:
        known = ", ".join(map(str, variables))
        raise ConfigurationError(
            f"{name}: a dataset of {len(variables)} variables given ({known}), one expected:"
            " name it, as in dataset['ndvi'] or data.zarr/ndvi"
        )
    array = dataset[variables[0]]
    if _GEOREFERENCING in dataset.data_vars:
        array = array.assign_coords({_GEOREFERENCING: dataset[_GEOREFERENCING]})
    return array
