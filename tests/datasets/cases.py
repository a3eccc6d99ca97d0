"""Every format, with tiles for it; run as a program, it writes some of each and is killed."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from affine import Affine
from rasterio.crs import CRS

from batuta.datasets import (
    ArrayFile,
    AssembledFile,
    CarsDataset,
    CarsDict,
    SaveOptions,
    Window,
    fill_dataframe,
    fill_dataset,
)

HEIGHT, WIDTH = 300, 290
ROW_SPLIT, COL_SPLIT = 80, 110
UTM = Affine(0.5, 0, 340_000, 0, -0.5, 7_650_000)
MISSING = (1, 1)
"""A tile that is None."""

HEIGHTS = np.hypot(*np.mgrid[:HEIGHT, :WIDTH]).astype(np.float32)
HEIGHTS[7, 7] = np.nan


@dataclass(frozen=True, eq=False)
class Case:
    """A format, as a program asks for it."""

    dataset_type: str
    file_name: str
    options: SaveOptions = field(default_factory=SaveOptions)
    by_pair: bool = False
    dtype: str = "float32"

    @property
    def label(self) -> str:
        """What tests are called by."""
        asked = "".join(f"-{name}={value}" for name, value in self.options.given().items())
        return self.file_name + asked + "-by-pair" * self.by_pair

    def dataset(self) -> CarsDataset:
        """Make a dataset without tiles."""
        dataset = CarsDataset(self.dataset_type, name="conformance")
        dataset.create_grid(WIDTH, HEIGHT, ROW_SPLIT, COL_SPLIT)
        return dataset

    def positions(self) -> list[tuple[int, int]]:
        """List the tiles that are not None."""
        return [each for each in self.dataset().positions() if each != MISSING]

    def tile(self, row: int, col: int) -> Any:
        """Make a tile, the same each time."""
        return {"arrays": arrays_tile, "points": points_tile, "dict": dict_tile}[self.dataset_type](
            self.dataset(), row, col
        )

    def open(
        self, folder: Path, *, resume: bool = False, first: tuple[int, int] | None = (0, 0)
    ) -> ArrayFile | AssembledFile:
        """Open the file in `folder`, from its first tile."""
        return self.dataset().generate_descriptor(
            None if first is None else self.tile(*first),
            folder / self.file_name,
            tag="z",
            dtype=self.dtype,
            nodata=99 if self.options.nbits else -9999,
            options=self.options,
            save_points_cloud_by_pair=self.by_pair,
            resume=resume,
        )

    def write(
        self, descriptor: ArrayFile | AssembledFile, positions: list[tuple[int, int]]
    ) -> None:
        """Write some tiles."""
        for position in positions:
            self.dataset().run_save(
                self.tile(*position), "", tag="z", descriptor=descriptor, position=position
            )

    def whole(self) -> dict[str, bytes]:
        """Return the expected content, written at once and in order."""
        if self not in _WHOLE:
            with TemporaryDirectory() as folder:
                self.write_whole(Path(folder))
                _WHOLE[self] = contents(Path(folder))
        return _WHOLE[self]

    def write_whole(self, folder: Path) -> ArrayFile | AssembledFile:
        """Write it all, in order, in `folder`."""
        descriptor = self.open(folder)
        self.write(descriptor, self.positions())
        descriptor.close()
        return descriptor


_WHOLE: dict[Case, dict[str, bytes]] = {}


def arrays_tile(dataset: CarsDataset, row: int, col: int) -> xr.Dataset:
    window = Window.from_mapping(dataset.get_window_as_dict(row, col))
    part = HEIGHTS[window.row_min : window.row_max, window.col_min : window.col_max].copy()
    tile = xr.Dataset({"z": (("row", "col"), part)})
    profile = {"height": HEIGHT, "width": WIDTH, "transform": UTM, "crs": CRS.from_epsg(32740)}
    fill_dataset(tile, profile=profile)
    return tile


def points_tile(dataset: CarsDataset, row: int, col: int) -> pd.DataFrame:
    rng = np.random.default_rng(10 * row + col)
    count = 20 * col  # none in the first column
    frame = pd.DataFrame(
        {
            "x": 340_000 + 55 * col + rng.random(count) * 55,
            "y": 7_650_000 - 40 * row - rng.random(count) * 40,
            "z": rng.random(count) * 10,
            "red": rng.integers(0, 256, count).astype(np.uint8),
            "confidence": rng.random(count).astype(np.float32),
            "global_id": rng.integers(0, 2, count),
        }
    )
    if row == 2:
        frame["only_here"] = np.arange(count)
    fill_dataframe(frame, attributes={"epsg": 32740, "source_pc_names": ["one_two", "one/three"]})
    return frame


def dict_tile(dataset: CarsDataset, row: int, col: int) -> CarsDict:
    return CarsDict({"place": np.array([row, col]), "mean": row / (col or np.nan)}, {"row": row})


def contents(folder: Path) -> dict[str, bytes]:
    """Read every file in a folder, by its path."""
    return {
        each.relative_to(folder).as_posix(): each.read_bytes()
        for each in sorted(folder.rglob("*"))
        if each.is_file()
    }


ALL = [
    Case("arrays", "plain.tif"),
    Case("arrays", "tagged.tif", SaveOptions(block_px=64, tags={"a": "b"})),
    Case("arrays", "small.tif", SaveOptions(compression="deflate")),
    Case("arrays", "bits.tif", SaveOptions(nbits=9), dtype="uint16"),
    Case("arrays", "cog.tif", SaveOptions(cloud_optimized=True, compression="zstd", block_px=64)),
    Case("arrays", "by_tile.zarr"),
    Case("arrays", "by_chunk.zarr", SaveOptions(block_px=64, compression="none")),
    Case("points", "cloud.csv"),
    Case("points", "cloud.parquet", SaveOptions(compression="zstd")),
    Case("points", "cloud.geoparquet"),
    Case("points", "cloud.las"),
    Case("points", "cloud.laz"),
    Case("points", "cloud.laz", by_pair=True),
    Case("dict", "all.json"),
]


def be_killed(folder: Path) -> None:
    """Write some tiles, make them safe, write others, and vanish."""
    for index, case in enumerate(ALL):
        place = folder / str(index)
        place.mkdir()
        descriptor = case.open(place)
        positions = case.positions()
        case.write(descriptor, positions[:5])
        descriptor.checkpoint()
        case.write(descriptor, positions[5:7])
    os._exit(9)


if __name__ == "__main__":
    be_killed(Path(sys.argv[1]))
