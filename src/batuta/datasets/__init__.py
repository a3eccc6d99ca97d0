"""Grids of tiles, tile types, and the files that tiles are saved to."""

from typing import TYPE_CHECKING

from batuta.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from batuta.datasets.array_file import ArrayFile, RasterSpec
    from batuta.datasets.assembled_file import AssembledFile
    from batuta.datasets.descriptor import Descriptor
    from batuta.datasets.errors import TileError
    from batuta.datasets.for_programs import CarsDataset, Tile, fill_dataframe, fill_dataset
    from batuta.datasets.grid import GridSpec, Overlaps, Window
    from batuta.datasets.json_file import JsonFile
    from batuta.datasets.open_output import is_resumable
    from batuta.datasets.options import SaveOptions
    from batuta.datasets.point_file import PointFile
    from batuta.datasets.raster_file import RasterFile
    from batuta.datasets.tiles import CarsDict, fill_dict

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

# Imported when they are used: maps of rasters take neither xarray nor pandas, and start in half of
# the time without. Within Batuta, `CarsDataset` is taken from its module, which imports neither.
__getattr__ = lazy_exports(
    __name__,
    {
        name: f"{__name__}.{module}"
        for module, names in {
            "array_file": ("ArrayFile", "RasterSpec"),
            "assembled_file": ("AssembledFile",),
            "descriptor": ("Descriptor",),
            "errors": ("TileError",),
            "for_programs": ("CarsDataset", "Tile", "fill_dataframe", "fill_dataset"),
            "grid": ("GridSpec", "Overlaps", "Window"),
            "json_file": ("JsonFile",),
            "open_output": ("is_resumable",),
            "options": ("SaveOptions",),
            "point_file": ("PointFile",),
            "raster_file": ("RasterFile",),
            "tiles": ("CarsDict", "fill_dict"),
        }.items()
        for name in names
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
