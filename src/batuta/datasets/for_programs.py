"""What programs fill with tiles, imported with the libraries of tiles.

So these are there before the workers of a program are started, which inherit them: a worker that
imported them for its first task would take most of a second.
"""

from batuta.datasets.cars_dataset import CarsDataset
from batuta.datasets.tile_types import Tile
from batuta.datasets.tiles import fill_dataframe, fill_dataset

__all__ = ["CarsDataset", "Tile", "fill_dataframe", "fill_dataset"]
