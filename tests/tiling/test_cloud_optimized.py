"""Cloud-optimised GeoTIFFs are valid, and the same whoever computes their tiles."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from batuta import map_tiles
from batuta.datasets import SaveOptions, TileError, Window
from batuta.datasets.cloud_raster_file import CloudRasterFile
from tests.tiling.rasters import heights, pixels_of, write_raster

cogeo = pytest.importorskip("rio_cogeo.cogeo", reason="needs rio-cogeo")

MODES: list[dict[str, Any]] = [
    {"mode": "sequential"},
    *({"mode": "multiprocessing", "nb_workers": count} for count in (1, 2, 3)),
]


def shifted(z: Any) -> Any:
    return z + 1


@pytest.mark.parametrize(
    ("shape", "dtype", "compression"),
    [
        ((700, 1300), "float32", "zstd"),
        ((700, 1300), "uint16", "deflate"),
        ((2, 600, 530), "int16", "lzw"),
        ((700, 1300), "float32", None),
        ((40, 30), "uint8", "zstd"),
        ((512, 2048), "float64", "lerc"),
    ],
)
def test_it_is_valid_and_has_overviews(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, compression: str | None
) -> None:
    whole = (np.indices(shape).sum(axis=0) % 200).astype(dtype)
    dem = write_raster(tmp_path / "dem.tif", whole, nodata=7)
    out = tmp_path / "out.tif"
    options = SaveOptions(cloud_optimized=True, compression=compression)
    kept: dict[str, Any] = {"missing": "raw", "dtype": dtype, "nodata": 7}
    map_tiles(np.positive, dem, out=out, tile=256, options=options, mode=MODES[2], **kept)
    valid, errors, warnings = cogeo.cog_validate(out, strict=True)
    assert (valid, errors, warnings) == (True, [], [])
    np.testing.assert_array_equal(pixels_of(out), whole)
    with rasterio.open(out) as raster:
        halvings = max(0, int(np.ceil(np.log2(max(shape[-2:]) / 512))))
        assert raster.overviews(1) == [2**each for each in range(1, halvings + 1)]
        assert raster.nodata == 7
        assert raster.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"


@pytest.mark.parametrize("compression", [None, "zstd", "deflate"])
def test_its_bytes_depend_neither_on_workers_nor_on_tiles(
    tmp_path: Path, compression: str | None
) -> None:
    dem = write_raster(tmp_path / "dem.tif", heights(1100, 700), nodata=3)
    options = SaveOptions(cloud_optimized=True, compression=compression, block_px=128)
    found = set()
    tiles: list[int | tuple[int, int]] = [300, 128, (100, 700), 512]
    for mode, tile in zip(MODES, tiles, strict=True):
        out = tmp_path / "out.tif"
        map_tiles(shifted, dem, out=out, tile=tile, options=options, mode=mode, nodata=-9999)
        found.add(hashlib.sha256(out.read_bytes()).hexdigest())
    assert len(found) == 1


def test_tiles_are_whole_blocks_which_come_compressed_from_their_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_file: object, _bands: object, window: Window) -> None:
        raise AssertionError(f"{window} is not compressed")

    monkeypatch.setattr(CloudRasterFile, "_store", refuse)
    whole = heights(1100, 700)
    dem = write_raster(tmp_path / "dem.tif", whole, nodata=3)
    options = SaveOptions(cloud_optimized=True, compression="zstd", block_px=256)
    out = tmp_path / "out.tif"
    mapped = map_tiles(shifted, dem, out=out, options=options, nodata=-9999, mode=MODES[2])
    assert mapped.plan.tile == (256, 700)
    np.testing.assert_array_equal(pixels_of(out), np.where(whole == 3, -9999, whole + 1))


def test_values_that_the_file_cannot_hold_fail_their_tile(tmp_path: Path) -> None:
    dem = write_raster(tmp_path / "dem.tif", np.full((600, 600), 300, "int16"))
    options = SaveOptions(cloud_optimized=True)
    with pytest.raises(TileError, match=r"out\.tif: values from 301 to 301 cannot be saved"):
        map_tiles(
            shifted,
            dem,
            out=tmp_path / "out.tif",
            dtype="uint8",
            options=options,
            mode="sequential",
        )


def test_fractions_that_a_worker_has_rounded_are_told_of(tmp_path: Path) -> None:
    dem = write_raster(tmp_path / "dem.tif", np.full((600, 600), 2.5, "float32"))
    out = tmp_path / "out.tif"
    options = SaveOptions(cloud_optimized=True)
    map_tiles(shifted, dem, out=out, dtype="int16", options=options, mode="sequential")
    manifest = json.loads((tmp_path / "out.tif.manifest.json").read_text(encoding="utf-8"))
    assert "rounded to int16" in str(manifest["warnings"])


def test_overviews_are_means_of_what_has_a_value(tmp_path: Path) -> None:
    whole = np.full((1024, 1024), 5, "float32")
    whole[:, 1::2] = np.nan
    out = tmp_path / "out.tif"
    options = SaveOptions(cloud_optimized=True)
    dem = write_raster(tmp_path / "dem.tif", whole)
    map_tiles(shifted, dem, out=out, options=options, tile=300, nodata=-1, mode="sequential")
    with rasterio.open(out, overview_level=0) as overview:
        assert overview.shape == (512, 512)
        assert np.unique(overview.read(1)).tolist() == [6]
