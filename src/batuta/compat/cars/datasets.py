"""Adapts the datasets of CARS, and how it saves their tiles, to our savers."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from batuta.datasets import Overlaps, TileError, Window
from batuta.datasets.tiles import overlaps_of, window_of

ARRAYS: Final = "arrays"
POINTS: Final = "points"
SAVED_TYPES: Final = (ARRAYS, POINTS)
"""The types of dataset that CARS saves in files."""


@dataclass(frozen=True, kw_only=True)
class CarsFileOptions:
    """Options that CARS has for a file in addition to those of Batuta.

    Parameters
    ----------
    save_by_pair : bool
        Whether points are saved in one folder per stereo pair.
    rio_tags, rio_band_description : sequence of (band, text), optional
        Metadata of each band; the first band is 1.
    nbits : int, optional
        Bits per value.
    """

    save_by_pair: bool = False
    rio_tags: Sequence[tuple[int, object]] | None = None
    rio_band_description: Sequence[tuple[int, object]] | None = None
    nbits: int | None = None


class CarsRaster:
    """A GeoTIFF that CARS opens and writes."""

    def __init__(self, path: Path, dataset: Any) -> None:
        self.outputs = (path,)
        self.dataset = dataset

    def read(self, window: Window) -> Any:
        """Read the file at `window`: (bands, rows, columns)."""
        return self.dataset.read(
            window=((window.row_min, window.row_max), (window.col_min, window.col_max))
        )

    def checkpoint(self) -> None:
        """Refuse: its blocks are compressed in place, and would move when written again."""
        raise TileError(f"{self.outputs[0].name}: a raster written by CARS cannot be resumed")

    def close(self, *, keep: bool = False) -> None:  # noqa: ARG002 - a part of the contract
        """Flush and close the file."""
        self.dataset.close()

    def suspend(self) -> None:
        """Close the file."""
        self.close()

    def abandon(self) -> None:
        """Close the file; its content stays."""
        self.close()


class CarsPoints:
    """A folder in which CARS writes one file per tile of points."""

    def __init__(self, folder: Path) -> None:
        self.outputs = (folder,)
        folder.mkdir(parents=True, exist_ok=True)

    def checkpoint(self) -> None:
        """Do nothing: each file is complete once written."""

    def close(self, *, keep: bool = False) -> None:
        """Do nothing: no file is open."""

    def suspend(self) -> None:
        """Do nothing: no file is open."""

    def abandon(self) -> None:
        """Do nothing: no file is open."""


class SavedCarsDataset:
    """Adapts a CarsDataset of CARS to `batuta.orchestrator.contract.SavedDataset`.

    Parameters
    ----------
    dataset : cars.data_structures.cars_dataset.CarsDataset
        The dataset to save.
    options : mapping
        The options of each file, by file name.
    """

    def __init__(self, dataset: Any, options: Mapping[str, CarsFileOptions]) -> None:
        self.dataset = dataset
        self.dataset_type: str = dataset.dataset_type
        self._options = options

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        rows, cols = self.dataset.shape
        return int(rows), int(cols)

    def generate_descriptor(
        self, future_result: Any, file_name: str | os.PathLike[str], **saver_options: Any
    ) -> CarsRaster | CarsPoints:
        """Let CARS open the file that tiles are saved in.

        Parameters
        ----------
        future_result : tile
            The first tile.
        file_name : path
            The file, or the folder for points.
        **saver_options
            The options of the saver, of which CARS takes `tag`, `dtype` and `nodata`.
        """
        if self.dataset_type == POINTS:
            return CarsPoints(Path(file_name))
        options = self._options[os.fspath(file_name)]
        opened = self.dataset.generate_descriptor(
            future_result,
            os.fspath(file_name),
            tag=saver_options["tag"],
            dtype=saver_options["dtype"],
            nodata=saver_options["nodata"],
            rio_tags=options.rio_tags,
            rio_band_description=options.rio_band_description,
            nbits=options.nbits,
        )
        return CarsRaster(Path(file_name), opened)

    def run_save(
        self,
        future_result: Any,
        file_name: str | os.PathLike[str],
        tag: str,
        descriptor: CarsRaster | CarsPoints,
        *,
        position: tuple[int, int],
    ) -> None:
        """Let CARS save a tile."""
        options = self._options[os.fspath(file_name)]
        if isinstance(descriptor, CarsRaster):
            self.dataset.run_save(
                future_result,
                os.fspath(file_name),
                tag=tag,
                descriptor=descriptor.dataset,
                nbits=options.nbits,
            )
            return
        row, col = position
        # CARS names the file after the tile if that carries its position.
        self.dataset.run_save(
            future_result,
            os.fspath(descriptor.outputs[0] / f"{col}_{row}"),
            save_by_pair=options.save_by_pair,
        )

    def placement_of(self, tile: Any) -> tuple[Window, Overlaps]:
        """Return the window and the overlaps that a tile carries."""
        window = window_of(tile)
        if window is None:
            raise TileError(f"{self.dataset.name}: a tile carries no window")
        return window, overlaps_of(tile) or Overlaps()
