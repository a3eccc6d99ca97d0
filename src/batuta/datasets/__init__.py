"""Grids of tiles, tile types, and the files that tiles are saved to."""

from batuta.datasets.array_file import ArrayFile, RasterSpec
from batuta.datasets.assembled_file import AssembledFile
from batuta.datasets.cars_dataset import CarsDataset
from batuta.datasets.descriptor import Descriptor
from batuta.datasets.errors import TileError
from batuta.datasets.grid import GridSpec, Overlaps, Window
from batuta.datasets.json_file import JsonFile
from batuta.datasets.lazy_dask import make_dask_lazy
from batuta.datasets.open_output import is_resumable
from batuta.datasets.options import SaveOptions
from batuta.datasets.point_file import PointFile
from batuta.datasets.raster_file import RasterFile
from batuta.datasets.tiles import CarsDict, Tile, fill_dataframe, fill_dataset, fill_dict

__all__ = [
    "ArrayFile",
    "AssembledFile",
    "CarsDataset",
    "CarsDict",
    "Descriptor",
    "GridSpec",
    "JsonFile",
    "Overlaps",
    "PointFile",
    "RasterFile",
    "RasterSpec",
    "SaveOptions",
    "Tile",
    "TileError",
    "Window",
    "fill_dataframe",
    "fill_dataset",
    "fill_dict",
    "is_resumable",
]

make_dask_lazy()
