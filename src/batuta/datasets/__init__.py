"""Grids of tiles, what a tile is, and the files tiles are saved in."""

from batuta.datasets.arrays import ArrayFile, RasterSpec
from batuta.datasets.cars_dataset import CarsDataset
from batuta.datasets.descriptor import Descriptor
from batuta.datasets.documents import DocumentFile
from batuta.datasets.errors import TileError
from batuta.datasets.grid import GridSpec, Overlaps, Window
from batuta.datasets.open_output import is_resumable
from batuta.datasets.options import SaveOptions
from batuta.datasets.part_files import GatheredFile
from batuta.datasets.points import PointsFile
from batuta.datasets.rasters import RasterFile
from batuta.datasets.tiles import CarsDict, Tile, fill_dataframe, fill_dataset, fill_dict

__all__ = [
    "ArrayFile",
    "CarsDataset",
    "CarsDict",
    "Descriptor",
    "DocumentFile",
    "GatheredFile",
    "GridSpec",
    "Overlaps",
    "PointsFile",
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
