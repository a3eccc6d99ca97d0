"""The error of a tile that cannot be saved or loaded."""

from typing import Self

from batuta.errors import BatutaError


class TileError(BatutaError, ValueError):
    """A tile is not what its CarsDataset, or its output file, expects."""

    def of_file(self, name: str) -> Self:
        """Return the same error with the name of the file before its message."""
        return type(self)(f"{name}: {self}")
