"""A grid of tiles that saves them its own way."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window


class CarsDataset:
    """Rows and columns of tiles."""

    def __init__(self, dataset_type: str, name: str, rows: int, cols: int) -> None:
        self.dataset_type = dataset_type
        self.name = name
        self.tiling_grid = np.zeros((rows, cols, 4), dtype=int)
        self.overlaps = np.zeros((rows, cols, 4))
        self.tiles: list[list[Any]] = [[None] * cols for _ in range(rows)]
        self.final_function: Any = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.tiling_grid.shape[0], self.tiling_grid.shape[1]

    def __getitem__(self, key: tuple[int, int]) -> Any:
        return self.tiles[key[0]][key[1]]

    def __setitem__(self, key: tuple[int, int], tile: Any) -> None:
        self.tiles[key[0]][key[1]] = tile

    def generate_descriptor(self, tile: Any, file_name: str, **asked: Any) -> Any:
        """Open a raster of the size that the tile tells."""
        raster = rasterio.open(
            file_name,
            "w+",
            driver="GTiff",
            **tile.attrs["profile"],
            count=1,
            dtype=asked["dtype"],
            nodata=asked["nodata"],
            transform=from_origin(300, 500, 2, 2),
        )
        for band, text in asked["rio_band_description"] or ():
            raster.set_band_description(band, text)
        for band, text in asked["rio_tags"] or ():
            raster.update_tags(band, class_name=text)
        return raster

    def run_save(self, tile: Any, file_name: str, **how: Any) -> None:
        """Write a tile in the raster, or in a file of its own."""
        if self.dataset_type == "points":
            name = f"{file_name}_by_pair" if how["save_by_pair"] else file_name
            tile.to_csv(Path(f"{name}.csv"), index=False)
            return
        window = tile.attrs["window"]
        place = Window.from_slices(
            (window["row_min"], window["row_max"]), (window["col_min"], window["col_max"])
        )
        how["descriptor"].write(tile[how["tag"]].values, 1, window=place)
