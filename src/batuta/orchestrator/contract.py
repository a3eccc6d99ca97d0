"""The protocols that an orchestrator requires of a dataset: `CarsDataset`, or a program's own."""

from typing import Any, Protocol, runtime_checkable

from batuta.datasets import Descriptor, Overlaps, Window


class TileGrid(Protocol):
    """A grid of tiles that can be registered. It must be hashable and weakly referenceable."""

    @property
    def name(self) -> str | None:
        """Its name in messages."""

    @property
    def dataset_type(self) -> str:
        """The type of its tiles: arrays, points or dict."""

    @property
    def final_function(self) -> Any:
        """Called with the orchestrator and a tile, returns what is saved; None saves the tile."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""

    @property
    def tiling_grid(self) -> Any:
        """Bounds of the tiles, of shape (rows, columns, 4)."""

    @property
    def overlaps(self) -> Any:
        """Overlaps of the tiles, of shape (rows, columns, 4)."""

    def __getitem__(self, position: tuple[int, int], /) -> Any: ...

    def __setitem__(self, position: tuple[int, int], tile: Any, /) -> None: ...


class SavedDataset(Protocol):
    """What a saver requires of a dataset; documented in `CarsDataset`."""

    @property
    def dataset_type(self) -> str:
        """The type of its tiles: arrays, points or dict."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""

    @property
    def generate_descriptor(self) -> Any:
        """Open the file that tiles are saved in."""

    @property
    def run_save(self) -> Any:
        """Save a computed tile."""

    def placement_of(self, tile: Any, /) -> tuple[Window, Overlaps]:
        """Return the window and the overlaps of an arrays tile."""


@runtime_checkable
class Readable(Descriptor, Protocol):
    """A descriptor that can read what was written."""

    def read(self, window: Window) -> Any:
        """Read what the file holds at `window`."""
