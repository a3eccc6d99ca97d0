"""The code of the page on mapping functions over rasters runs when it is pasted."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

import batuta
from tests.docs.test_docs import ROOT, fences
from tests.orchestrator.inspection import manifest
from tests.tiling.rasters import PLACE, heights, pixels_of, write_raster

PAGE: Final = fences(ROOT / "docs" / "how-to" / "map-rasters.md", "python")


def test_the_parts_of_the_page_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rasters()
    names: dict[str, Any] = {"__name__": "__main__", "map_tiles": batuta.map_tiles}
    for block in PAGE:
        exec(compile(block, "map-rasters.md", "exec"), names)  # noqa: S102 - of our page
    products = {path.name.removesuffix(".manifest.json") for path in Path().glob("*.json")}
    assert products >= {"slope.tif", "ndvi.tif", "above.tif", "smooth_slope.tif", "steep.parquet"}
    assert all(manifest(tmp_path / name)["complete"] for name in products - {"relief.json"})
    whole = pixels_of("dem.tif")
    np.testing.assert_array_equal(pixels_of("slope.tif"), names["slope_deg"](whole))
    np.testing.assert_array_equal(pixels_of("slope2.tif"), pixels_of("slope.tif"))
    np.testing.assert_array_equal(pixels_of("part.tif"), pixels_of("slope.tif")[10:34, 10:60])
    assert names["counts"].tolist() == [2250.0] * 4
    assert names["histogram"].sum() == (whole <= 4000).sum()
    np.testing.assert_allclose(names["quartiles"], np.percentile(whole, [25, 75]), rtol=1e-4)
    np.testing.assert_allclose(names["median"], np.median(whole), rtol=1e-4)
    assert names["mean"] == whole.mean(dtype="float64")
    assert f"{whole.mean(dtype='float64')}" in capsys.readouterr().out


def write_rasters() -> None:
    """Write what the page reads."""
    write_raster(Path("dem.tif"), heights(100, 90))
    for name in ("red.tif", "nir.tif"):
        write_raster(Path(name), heights(100, 90) + 1)
    write_raster(Path("coarse.tif"), heights(50, 45), transform=PLACE @ PLACE.scale(2))
    write_raster(Path("zones.tif"), (heights(100, 90) % 4).astype("uint8"))
