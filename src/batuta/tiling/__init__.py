"""Functions of arrays, applied to whole rasters tile by tile."""

from batuta.tiling.mapped import MappedTiles
from batuta.tiling.mapping import map_tiles, reduce_tiles
from batuta.tiling.outputs import TiledOutput
from batuta.tiling.percentiles import Percentiles, PercentileSketch
from batuta.tiling.place import TilePlace
from batuta.tiling.plan import TilePlan
from batuta.tiling.statistics import Statistics

__all__ = [
    "MappedTiles",
    "PercentileSketch",
    "Percentiles",
    "Statistics",
    "TilePlace",
    "TilePlan",
    "TiledOutput",
    "map_tiles",
    "reduce_tiles",
]
