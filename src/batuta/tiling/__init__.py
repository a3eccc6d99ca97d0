"""Functions of arrays, applied to whole rasters tile by tile."""

from batuta.tiling.mapped import MappedTiles
from batuta.tiling.mapping import map_tiles
from batuta.tiling.outputs import TiledOutput
from batuta.tiling.place import TilePlace
from batuta.tiling.plan import TilePlan

__all__ = ["MappedTiles", "TilePlace", "TilePlan", "TiledOutput", "map_tiles"]
