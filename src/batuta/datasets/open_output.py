"""From a file name to the class that writes its format."""

import importlib
import os
from pathlib import Path

from batuta.datasets.array_file import ArrayFile, RasterSpec
from batuta.datasets.assembled_file import AssembledFile
from batuta.datasets.cloud_raster_file import CloudRasterFile
from batuta.datasets.durable_file import workspace_of
from batuta.datasets.errors import TileError
from batuta.datasets.formats import ARRAYS, GEOTIFF, POINTS, ZARR, format_of
from batuta.datasets.json_file import JsonFile
from batuta.datasets.options import SaveOptions
from batuta.datasets.raster_file import is_plain, raster_file


def open_array_file(
    file_name: str | os.PathLike[str],
    spec: RasterSpec | None,
    options: SaveOptions,
    *,
    resume: bool,
) -> ArrayFile:
    """Open a file of arrays; without `spec`, that of the existing file to resume."""
    _check_resumable(file_name, options, resume=resume)
    if format_of(file_name, ARRAYS) is ZARR:
        # Imported on use: zarr is optional.
        zarrs = importlib.import_module("batuta.datasets.zarr_file")
        made: ArrayFile = zarrs.ZarrFile(file_name, spec, options, resume=resume)
        return made
    if options.cloud_optimized:
        return CloudRasterFile(file_name, spec, options, resume=resume)
    return raster_file(file_name, spec, options, resume=resume)


def open_assembled_file(
    file_name: str | os.PathLike[str],
    dataset_type: str,
    options: SaveOptions,
    *,
    by_pair: bool,
    resume: bool,
) -> AssembledFile:
    """Open a file of points or dicts."""
    _check_resumable(file_name, options, resume=resume)
    if dataset_type == POINTS:
        # Imported on use: pandas and pyarrow take a third of a second, and are of points alone.
        from batuta.datasets.point_file import PointFile  # noqa: PLC0415

        return PointFile(file_name, options, by_pair=by_pair, resume=resume)
    return JsonFile(file_name, resume=resume)


def is_resumable(file_name: str | os.PathLike[str], options: SaveOptions | None = None) -> bool:
    """Return whether an earlier run left anything that ``resume=True`` can open."""
    path = Path(file_name)
    if path.suffix in GEOTIFF.suffixes and is_plain(options):
        return path.is_file()
    return workspace_of(path).is_dir()


def _check_resumable(
    file_name: str | os.PathLike[str], options: SaveOptions, *, resume: bool
) -> None:
    if resume and not is_resumable(file_name, options):
        raise TileError(f"{Path(file_name).name}: nothing to resume from an earlier run")
