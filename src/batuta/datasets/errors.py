"""The error of a tile that cannot be saved or loaded."""

from batuta.errors import BatutaError


class TileError(BatutaError, ValueError):
    """A tile is not what its CarsDataset, or its output file, expects."""
