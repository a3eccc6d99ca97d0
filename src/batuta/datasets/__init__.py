"""Grids of tiles, what a tile is, and the files tiles are saved in."""

from batuta.datasets.cars_dataset import CarsDataset, Descriptor
from batuta.datasets.errors import TileError
from batuta.datasets.grid import GridSpec, Overlaps, Window
from batuta.datasets.rasters import RasterFile
from batuta.datasets.tables import DocumentFile, TableFile
from batuta.datasets.tiles import CarsDict, Tile, fill_dataframe, fill_dataset, fill_dict

__all__ = [
    "CarsDataset",
    "CarsDict",
    "Descriptor",
    "DocumentFile",
    "GridSpec",
    "Overlaps",
    "RasterFile",
    "TableFile",
    "Tile",
    "TileError",
    "Window",
    "fill_dataframe",
    "fill_dataset",
    "fill_dict",
]
