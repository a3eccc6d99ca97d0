"""Which class opens which format."""

import importlib
import os
from pathlib import Path

from batuta.datasets.arrays import ArrayFile, RasterSpec
from batuta.datasets.documents import DocumentFile
from batuta.datasets.durable_file import workspace_of
from batuta.datasets.errors import TileError
from batuta.datasets.formats import ARRAYS, GEOTIFF, POINTS, ZARR, format_of
from batuta.datasets.options import SaveOptions
from batuta.datasets.part_files import GatheredFile
from batuta.datasets.points import PointsFile
from batuta.datasets.rasters import is_plain, raster_file


def open_arrays(
    file_name: str | os.PathLike[str],
    spec: RasterSpec | None,
    options: SaveOptions,
    *,
    resume: bool,
) -> ArrayFile:
    """Open a file of arrays; without spec, what an earlier run left tells it."""
    _check_left(file_name, options, resume=resume)
    if format_of(file_name, ARRAYS) is ZARR:
        # Imported when first written: zarr is optional.
        zarrs = importlib.import_module("batuta.datasets.zarrs")
        made: ArrayFile = zarrs.ZarrFile(file_name, spec, options, resume=resume)
        return made
    return raster_file(file_name, spec, options, resume=resume)


def open_gathered(
    file_name: str | os.PathLike[str],
    dataset_type: str,
    options: SaveOptions,
    *,
    by_pair: bool,
    resume: bool,
) -> GatheredFile:
    """Open a file of points or dicts."""
    _check_left(file_name, options, resume=resume)
    if dataset_type == POINTS:
        return PointsFile(file_name, options, by_pair=by_pair, resume=resume)
    return DocumentFile(file_name, resume=resume)


def is_resumable(file_name: str | os.PathLike[str], options: SaveOptions | None = None) -> bool:
    """Tell whether an earlier run left something of this file that ``resume=True`` can open."""
    path = Path(file_name)
    if path.suffix in GEOTIFF.suffixes and is_plain(options):
        return path.is_file()
    return workspace_of(path).is_dir()


def _check_left(file_name: str | os.PathLike[str], options: SaveOptions, *, resume: bool) -> None:
    if resume and not is_resumable(file_name, options):
        raise TileError(f"{Path(file_name).name}: an earlier run left nothing to resume")
