"""Grids of tiles and the plain GeoTIFF that they are written to, without Batuta."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rasterio
import xarray as xr
from rasterio.windows import Window

from benchmarks.orchestrator.support.tiles import TAG

TILES_PER_ROW = 32


def windows(tiles: int, side_px: int, per_row: int = TILES_PER_ROW) -> Iterator[dict[str, int]]:
    """Iterate over the windows of tiles, row by row."""
    for index in range(tiles):
        row, col = (index // per_row) * side_px, (index % per_row) * side_px
        yield {"row_min": row, "row_max": row + side_px, "col_min": col, "col_max": col + side_px}


class PlainRaster:
    """A float32 GeoTIFF in blocks of 256 x 256, written window by window."""

    def __init__(self, path: Path, rows: int, cols: int) -> None:
        layout = {"tiled": True, "blockxsize": 256, "blockysize": 256}
        size = {"height": rows, "width": cols, "count": 1, "dtype": "float32"}
        # Any transform will do: without one, rasterio warns.
        transform = rasterio.Affine.scale(2)
        self.dataset: Any = rasterio.open(
            path, "w", driver="GTiff", transform=transform, **layout, **size
        )

    def write(self, tile: xr.Dataset) -> None:
        """Write a tile at the window in its attributes."""
        window = tile.attrs["window"]
        target = Window.from_slices(
            (window["row_min"], window["row_max"]), (window["col_min"], window["col_max"])
        )
        self.dataset.write(tile[TAG].to_numpy(), 1, window=target)

    def close(self) -> None:
        """Close the file."""
        self.dataset.close()


def fingerprint(path: Path) -> int:
    """Return a checksum of the pixels of a raster."""
    with rasterio.open(path) as raster:
        return zlib.crc32(raster.read(1).tobytes())
