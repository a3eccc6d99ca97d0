"""Products whose functions map a function over the tiles of their inputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batuta import TiledOutput
from batuta.errors import ConfigurationError
from batuta.pipeline import Context, Output, Pipeline
from batuta.pipeline.context import PipelineError
from batuta.pipeline.testing import make_product
from tests.tiling.rasters import heights, pixels_of, write_raster

pipeline = Pipeline("relief")
ONCE: dict[str, Any] = {"tile": 16, "mode": "sequential"}


@pipeline.product("MINUS", inputs=["DEM"], optional=["MASK"])
def minus(context: Context) -> Path:
    return context.map_tiles(np.negative, "DEM", out="minus.tif", nodata=-1, **ONCE)


@pipeline.product("BOTH", inputs=["DEM"], also_makes=["TABLE"])
def both(context: Context) -> list[Output]:
    raster, table = context.map_tiles(
        lambda z: (z, {"highest": float(z.max())}),
        "DEM",
        out=[TiledOutput(path="z.tif", dtype="float64"), "z.json"],
        **ONCE,
    )
    return [Output(raster), Output(table, product="TABLE")]


@pipeline.product("MASKED", inputs=["DEM"], optional=["MASK"])
def masked(context: Context) -> Path:
    return context.map_tiles(np.multiply, "DEM", "MASK", out="masked.tif", **ONCE)


@pipeline.product("OUTSIDE", inputs=["DEM"])
def outside(context: Context) -> Path:
    return context.map_tiles(np.negative, "DEM", out="../minus.tif", **ONCE)


@pipeline.product("UNDECLARED", inputs=["DEM"])
def undeclared(context: Context) -> Path:
    return context.map_tiles(np.negative, "MASK", out="minus.tif", **ONCE)


@pytest.fixture
def dem(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "dem.tif", heights(40, 30))


def test_inputs_are_named_as_declared_and_tiles_are_the_progress(dem: Path) -> None:
    made = make_product(pipeline, "MINUS", inputs={"DEM": dem})
    np.testing.assert_array_equal(pixels_of(made.path), -pixels_of(dem))
    assert made.progress == (6, 6)
    assert made.media_type == "image/tiff"


def test_several_results_are_as_many_files(dem: Path) -> None:
    made = make_product(pipeline, "BOTH", inputs={"DEM": dem})
    assert pixels_of(made.path).dtype == np.float64
    assert '"highest": 1199.0' in made.by_products["TABLE"].path.read_text()


def test_an_optional_input_is_mapped_where_it_is_there(dem: Path, tmp_path: Path) -> None:
    mask = write_raster(tmp_path / "mask.tif", (heights(40, 30) > 600).astype("float32"))
    made = make_product(pipeline, "MASKED", inputs={"DEM": dem, "MASK": mask})
    np.testing.assert_array_equal(pixels_of(made.path), pixels_of(dem) * pixels_of(mask))
    with pytest.raises(PipelineError, match="optional input MASK: the sdb has none; it cannot be"):
        make_product(pipeline, "MASKED", inputs={"DEM": dem})


def test_what_is_not_declared_or_leads_outside_is_refused(dem: Path) -> None:
    with pytest.raises(PipelineError, match="input 'MASK': not declared by UNDECLARED"):
        make_product(pipeline, "UNDECLARED", inputs={"DEM": dem})
    with pytest.raises(PipelineError, match="not the name of a file inside the work folder"):
        make_product(pipeline, "OUTSIDE", inputs={"DEM": dem})


def test_an_input_that_is_no_raster_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigurationError, match=r"^input: .* cannot be read: "):
        make_product(pipeline, "MINUS", inputs={"DEM": b"text"})
