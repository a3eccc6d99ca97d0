"""CarsDataset: a grid of tiles."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from batuta.datasets.array_file import ArrayFile, RasterRequest, raster_dtype
from batuta.datasets.array_tile import AnyArrayTile, is_array_tile
from batuta.datasets.assembled_file import AssembledFile
from batuta.datasets.display import dataset_html
from batuta.datasets.errors import TileError
from batuta.datasets.formats import ARRAYS, DATASET_TYPES, output_problems
from batuta.datasets.grid import (
    Grid,
    GridSpec,
    Overlaps,
    Window,
    extent_of,
    largest_tile,
)
from batuta.datasets.json_codec import dumps, loads
from batuta.datasets.open_output import open_array_file, open_assembled_file
from batuta.datasets.options import SaveOptions
from batuta.datasets.tile_storage import load_tile, save_tile
from batuta.datasets.tiles import overlaps_of, window_of
from batuta.errors import ConfigurationError

_INFO_FILE: Final = "dataset.json"


class CarsDataset:
    """A grid of tiles, with their overlaps and attributes.

    Parameters
    ----------
    dataset_type : {"arrays", "points", "dict"}
        The type of its tiles: `xarray.Dataset`, `pandas.DataFrame` or `CarsDict`.
    load_from_disk : path, optional
        A folder written by `save_cars_dataset`, read at once.
    name : str, optional
        Its name in messages and manifests.

    Attributes
    ----------
    tiling_grid : array of shape (rows, columns, 4)
        ``row_min, row_max, col_min, col_max`` of each tile, half-open, without overlaps. Setting
        it empties the tiles and the overlaps.
    overlaps : array of shape (rows, columns, 4)
        ``up, down, left, right`` of each tile, in pixels.
    tiles : list of lists
        The tiles, or the delayed objects that become them; also ``dataset[row, col]``. None means
        no tile.
    attributes : dict
        Any metadata of the whole dataset.
    final_function : callable or None
        Called as ``final_function(orchestrator, tile)`` before a computed tile is saved; its
        return value is saved.
    """

    def __init__(
        self,
        dataset_type: str,
        load_from_disk: str | os.PathLike[str] | None = None,
        name: str | None = None,
    ) -> None:
        if dataset_type not in DATASET_TYPES:
            raise ConfigurationError(
                f"dataset_type: {dataset_type!r} given, one of {', '.join(DATASET_TYPES)} expected"
            )
        self.dataset_type = dataset_type
        self.name = name
        self.attributes: dict[str, Any] = {}
        self.final_function: Any = None
        self.tiles: list[list[Any]] = []
        self.overlaps: Grid = np.zeros((0, 0, 4), dtype=np.int64)
        self._tiling_grid: Grid = np.zeros((0, 0, 4), dtype=np.int64)
        if load_from_disk is not None:
            self.load_cars_dataset_from_disk(load_from_disk)

    def __repr__(self) -> str:
        name = "" if self.name is None else f" {self.name!r}"
        return f"<CarsDataset{name}: {self.dataset_type}, {self.shape[0]} x {self.shape[1]} tiles>"

    def _repr_html_(self) -> str:
        return dataset_html(
            repr(self)[1:-1], self._tiling_grid, self.overlaps, self.tiles, self.attributes
        )

    def custom_print(self) -> str:
        """Return a long description: the grid, overlaps, attributes and tiles."""
        return (
            f"{self!r}\ntiling_grid: {self._tiling_grid}\noverlaps: {self.overlaps}\n"
            f"attributes: {self.attributes}\ntiles: {self.tiles}"
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return self._tiling_grid.shape[0], self._tiling_grid.shape[1]

    @property
    def tiling_grid(self) -> Grid:
        """The bounds of the tiles."""
        return self._tiling_grid

    @tiling_grid.setter
    def tiling_grid(self, new_grid: Grid) -> None:
        grid = np.asarray(new_grid)
        if grid.ndim != 3 or grid.shape[2] != 4:
            raise ConfigurationError(
                f"tiling_grid: an array of shape {grid.shape} given, (rows, columns, 4) expected"
            )
        self._tiling_grid = grid
        self.overlaps = np.zeros(grid.shape, dtype=np.int64)
        self.generate_none_tiles()

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple) and len(key) == 2:
            return self.tiles[key[0]][key[1]]
        if isinstance(key, (int, np.integer)):
            return self.tiles[int(key)]
        raise IndexError(f"{key!r} given, [row, col] or [row] expected")

    def __setitem__(self, key: tuple[int, int], tile: Any) -> None:
        if not (isinstance(key, tuple) and len(key) == 2):
            raise IndexError(f"{key!r} given, [row, col] expected")
        self.tiles[key[0]][key[1]] = tile

    def positions(self) -> Iterator[tuple[int, int]]:
        """Yield the row and column of every tile, row by row."""
        rows, cols = self.shape
        return ((row, col) for row in range(rows) for col in range(cols))

    def create_grid(
        self,
        nb_col: int,
        nb_row: int,
        row_split: int,
        col_split: int,
        row_overlap: int = 0,
        col_overlap: int = 0,
    ) -> None:
        """Split an image into tiles; all sizes in pixels.

        Parameters
        ----------
        nb_col, nb_row : int
            Width and height of the image.
        row_split, col_split : int
            Height and width of a tile; the last ones may be smaller.
        row_overlap, col_overlap : int
            Margin of a tile above and below, left and right, clipped to the image.
        """
        spec = GridSpec(
            rows=nb_row,
            cols=nb_col,
            row_split=row_split,
            col_split=col_split,
            row_overlap=row_overlap,
            col_overlap=col_overlap,
        )
        self.tiling_grid = spec.tiling()
        self.overlaps = spec.overlaps()

    def generate_none_tiles(self) -> None:
        """Set every tile to None."""
        rows, cols = self.shape
        self.tiles = [[None] * cols for _ in range(rows)]

    def create_empty_copy(self, cars_ds: "CarsDataset") -> None:
        """Copy the grid, the overlaps and the attributes of `cars_ds`, but no tiles."""
        self.tiling_grid = cars_ds.tiling_grid.copy()
        self.overlaps = cars_ds.overlaps.copy()
        self.attributes = dict(cars_ds.attributes)

    def get_window_as_dict(
        self, row: int, col: int, from_terrain: bool = False, resolution: float = 1
    ) -> dict[str, int]:
        """Return the window of a tile, relative to the first pixel of the grid.

        Parameters
        ----------
        row, col : int
            Position in the grid.
        from_terrain : bool
            Whether the grid is in terrain coordinates, x before y and y upwards: its first axis
            becomes columns, and its second rows, reversed.
        resolution : float
            Size of a pixel in the units of the grid.
        """
        grid = self._tiling_grid
        bounds = grid[row, col]
        if from_terrain:
            top, left = np.max(grid[..., 3]), np.min(grid[..., 0])
            edges = [top - bounds[3], top - bounds[2], bounds[0] - left, bounds[1] - left]
        else:
            top, left = np.min(grid[..., 0]), np.min(grid[..., 2])
            edges = [bounds[0] - top, bounds[1] - top, bounds[2] - left, bounds[3] - left]
        return Window(*(int(edge) for edge in np.round(np.array(edges) / resolution))).as_dict()

    def get_overlaps_as_dict(self, row: int, col: int) -> dict[str, int]:
        """Return the overlaps of a tile: ``up, down, left, right``, in pixels."""
        return Overlaps(*(int(side) for side in self.overlaps[row, col])).as_dict()

    def generate_descriptor(  # noqa: PLR0913 - the signature that programs call
        self,
        future_result: Any,
        file_name: str | os.PathLike[str],
        tag: str | None = None,
        dtype: str | None = None,
        nodata: float | None = None,
        *,
        options: SaveOptions | None = None,
        save_points_cloud_by_pair: bool = False,
        resume: bool = False,
    ) -> ArrayFile | AssembledFile:
        """Open the file that tiles are saved to; see `Descriptor` for its life cycle.

        Parameters
        ----------
        future_result : tile
            The first tile: it determines the bands and, by its profile, the georeferencing. To
            resume, it may be None: the existing file determines them.
        file_name : path
            Its suffix selects the format: see docs/reference/formats.md.
        tag : str, optional
            Variable of arrays to save.
        dtype, nodata : optional
            Of arrays; without dtype, that of the tile, and tiles that it does not hold exactly
            are refused.
        options : SaveOptions, optional
            Options of the file.
        save_points_cloud_by_pair : bool
            Whether points are saved to one file per stereo pair.
        resume : bool
            Whether to resume the file of an earlier run, killed or suspended.

        Raises
        ------
        ConfigurationError
            One line for each invalid argument.
        TileError
            If there is nothing to resume, or it is another raster.
        """
        options = options or SaveOptions()
        is_arrays, converts = self.dataset_type == ARRAYS, dtype is not None
        if is_arrays and dtype is None and future_result is not None:
            dtype = raster_dtype(future_result[self._check_tag(future_result, tag)].dtype)
        problems = output_problems(
            file_name,
            self.dataset_type,
            dtype,
            nodata,
            options,
            by_pair=save_points_cloud_by_pair,
        )
        if problems:
            raise ConfigurationError(problems)
        if not is_arrays:
            return open_assembled_file(
                file_name,
                self.dataset_type,
                options,
                by_pair=save_points_cloud_by_pair,
                resume=resume,
            )
        spec = None
        if future_result is not None or not resume:
            request = self._raster_request(future_result, tag, dtype, nodata, options)
            try:
                spec = request.spec_for(future_result)
            except TileError as exc:
                raise exc.of_file(Path(file_name).name) from exc
        opened = open_array_file(file_name, spec, options, resume=resume)
        opened.converts = converts
        return opened

    def _raster_request(
        self, tile: Any, tag: str | None, dtype: str | None, nodata: float | None, how: SaveOptions
    ) -> RasterRequest:
        if self._tiling_grid.size == 0:
            raise TileError(f"{self!r}: its grid is empty, call create_grid first")
        return RasterRequest(
            tag=self._check_tag(tile, tag),
            shape=extent_of(self._tiling_grid),
            tile_shape=largest_tile(self._tiling_grid),
            dtype=dtype,
            nodata=nodata,
            band_descriptions=tuple(how.band_descriptions),
        )

    def run_save(
        self,
        future_result: Any,
        file_name: str | os.PathLike[str],
        tag: str | None = None,
        descriptor: ArrayFile | AssembledFile | None = None,
        *,
        position: tuple[int, int] | None = None,
    ) -> None:
        """Save a computed tile.

        Parameters
        ----------
        future_result : tile
            The tile.
        file_name : path
            Of the output; used to open it where no descriptor is given.
        tag : str, optional
            Variable of arrays to save.
        descriptor : optional
            As given by `generate_descriptor`; without it the file is opened, written and closed.
        position : (row, col), optional
            In the grid. Needed for points and dict; for arrays, where the tile does not carry
            its window.
        """
        if descriptor is None:
            opened = self.generate_descriptor(future_result, file_name, tag)
            self.run_save(future_result, file_name, tag, opened, position=position)
            opened.close()
        elif isinstance(descriptor, ArrayFile):
            variable = self._check_tag(future_result, tag)
            window, overlaps = self.placement_of(future_result, position)
            descriptor.write_variable(future_result, variable, window, overlaps)
        elif position is None:
            raise TileError(f"{self!r}: the position of the tile is needed to save it")
        else:
            descriptor.write(future_result, *position)

    def placement_of(
        self, tile: AnyArrayTile, position: tuple[int, int] | None = None
    ) -> tuple[Window, Overlaps]:
        """Return the window and overlaps of an arrays tile: its own, or those of the grid."""
        window, overlaps = window_of(tile), overlaps_of(tile)
        if position is None:
            if window is None:
                raise TileError(f"{self!r}: a tile has no window, and its position is not given")
            return window, overlaps or Overlaps()
        return (
            window or Window.from_mapping(self.get_window_as_dict(*position)),
            overlaps or Overlaps.from_mapping(self.get_overlaps_as_dict(*position)),
        )

    def _check_tag(self, tile: Any, tag: str | None) -> str:
        if not is_array_tile(tile):
            raise TileError(f"{self!r}: a Dataset expected, {type(tile).__name__} given")
        if tag is None or tag not in tile:
            raise TileError(
                f"{self!r}: no {tag!r} in a tile; it holds {', '.join(map(str, tile.data_vars))}"
            )
        return tag

    def save_single_tile(self, tile: Any, tile_path_name: str | os.PathLike[str]) -> None:
        """Write one tile and its attributes to a folder."""
        save_tile(tile, Path(tile_path_name))

    def load_single_tile(self, tile_path_name: str | os.PathLike[str]) -> Any:
        """Read a tile written by `save_single_tile`."""
        return load_tile(Path(tile_path_name), self.dataset_type)

    def save_cars_dataset(self, directory: str | os.PathLike[str]) -> None:
        """Write the whole dataset to a folder: grid, overlaps, attributes and every tile."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "grid.npy", self._tiling_grid)
        np.save(folder / "overlaps.npy", self.overlaps)
        present = [position for position in self.positions() if self[position] is not None]
        for position in present:
            self.save_single_tile(self[position], _tile_folder(folder, position))
        # Written last: a folder without it is incomplete.
        info = {"type": self.dataset_type, "name": self.name, "tiles": present}
        (folder / _INFO_FILE).write_text(
            dumps(info | {"attributes": self.attributes}), encoding="utf-8"
        )

    def load_cars_dataset_from_disk(self, directory: str | os.PathLike[str]) -> None:
        """Read what `save_cars_dataset` wrote.

        Raises
        ------
        ConfigurationError
            If the folder holds no complete dataset, or one of another type.
        """
        folder = Path(directory)
        info = _read_info(folder)
        if info["type"] != self.dataset_type:
            raise ConfigurationError(
                f"load_from_disk: {folder} holds {info['type']}, {self.dataset_type} expected"
            )
        self.name = self.name or info["name"]
        self.tiling_grid = np.load(folder / "grid.npy")
        self.overlaps = np.load(folder / "overlaps.npy")
        self.attributes = info["attributes"]
        for row, col in info["tiles"]:
            self[row, col] = self.load_single_tile(_tile_folder(folder, (row, col)))


def _tile_folder(folder: Path, position: tuple[int, int]) -> Path:
    return folder / f"row_{position[0]}_col_{position[1]}"


def _read_info(folder: Path) -> dict[str, Any]:
    try:
        info: dict[str, Any] = loads((folder / _INFO_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError) as exc:
        raise ConfigurationError(
            f"load_from_disk: {folder} is not a complete CarsDataset ({exc})"
        ) from exc
    return info
