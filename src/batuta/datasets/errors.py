"""What can go wrong with a tile."""

from batuta.errors import BatutaError


class TileError(BatutaError, ValueError):
    """A tile is not what its CarsDataset, or the file it goes to, expects."""
