"""Percentiles of rasters are those of the whole, within the error that is stated."""

import functools
import operator
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from batuta import Percentiles, Statistics, map_tiles, reduce_tiles
from batuta.errors import ConfigurationError
from batuta.tiling import PercentileSketch
from tests.tiling.rasters import heights, write_raster

ASKED = (0, 2, 37.5, 50, 98, 100)


def assert_within_error(
    found: npt.NDArray[Any], values: npt.NDArray[Any], asked: tuple[float, ...], error: float
) -> None:
    """Each percentile is between two values, of which each may be off by so much of itself."""
    for value, percent in zip(found, asked, strict=True):
        low, high = (
            np.percentile(values, percent, method=method) for method in ("lower", "higher")
        )
        bound = error * max(abs(low), abs(high)) * 1.000001
        assert abs(value - np.percentile(values, percent)) <= bound


@settings(max_examples=150, deadline=None)
@given(
    pixels=arrays.arrays(
        "float64",
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.floats(-1e9, 1e9, allow_subnormal=False) | st.just(float("nan")),
    ),
    cut=st.integers(0, 9),
    error=st.sampled_from([1e-6, 1e-4, 0.01, 0.1]),
)
def test_percentiles_of_parts_are_those_of_the_whole_within_the_error(
    pixels: npt.NDArray[Any], cut: int, error: float
) -> None:
    sketch_of = Percentiles(*ASKED, relative_error=error)
    parts = [sketch_of(pixels[:, :cut]), sketch_of(pixels[:, cut:])]
    found = functools.reduce(operator.add, parts)
    known = pixels[~np.isnan(pixels)]
    assert found.count == known.size
    assert found.relative_error <= error
    if known.size:
        assert_within_error(found.values, known, ASKED, found.relative_error)
        assert found.values[[0, -1]].tolist() == [known.min(), known.max()]
    else:
        assert np.isnan(found.values).all()
    swapped = parts[1] + parts[0]
    assert pickle.dumps(_counts(swapped)) == pickle.dumps(_counts(sketch_of(pixels)))


def _counts(sketch: PercentileSketch) -> Any:
    return [[each.tolist() for each in band.counts] for band in sketch.bands]


@pytest.mark.parametrize("tile", [13, 64])
@pytest.mark.parametrize("workers", [1, 2])
def test_tiles_and_workers_make_no_difference(tmp_path: Path, tile: int, workers: int) -> None:
    values = np.random.default_rng(3).gamma(2, 300, (70, 60)).astype("float32")
    values[:9] = -1
    dem = write_raster(tmp_path / "dem.tif", values, nodata=-1)
    conf = {"mode": "multiprocessing", "nb_workers": workers}
    found = reduce_tiles(Percentiles(*ASKED), dem, tile=tile, mode=conf)
    assert found.values.tolist() == Percentiles(*ASKED)(values[9:]).values.tolist()
    assert_within_error(found.values, values[9:], ASKED, 1e-4)


def test_masked_pixels_do_not_count_and_bands_are_apart() -> None:
    pixels = np.ma.masked_less(np.stack([heights(20, 30), heights(20, 30) + 1000]), 50)
    found = Percentiles(10, 90)(pixels)
    assert found.count.tolist() == [550, 600]
    for band in (0, 1):
        expected = np.percentile(pixels[band].compressed(), [10, 90])
        np.testing.assert_allclose(found.values[:, band], expected, rtol=1e-4)


def test_whole_numbers_are_exact() -> None:
    counts = np.arange(16_384, dtype="uint16").reshape(128, 128)
    assert Percentiles()(counts).at(25, 50).tolist() == np.percentile(counts, [25, 50]).tolist()
    infinite = np.array([[-np.inf, 0.0, -0.0, np.inf]])
    assert Percentiles()(infinite).at(0, 40, 100).tolist() == [-np.inf, 0.0, np.inf]


def test_one_pass_gives_statistics_and_percentiles() -> None:
    whole = heights(40, 30)
    median_of = Percentiles(50)
    statistics, sketch = reduce_tiles(
        lambda z: (Statistics.of(z), median_of(z)), whole, tile=16, mode="sequential"
    )
    assert statistics.mean == pytest.approx(whole.mean(dtype="float64"))
    assert sketch.values == pytest.approx(np.median(whole), rel=1e-4)


def test_a_chain_has_percentiles_too() -> None:
    doubled = map_tiles(lambda z: z * 2, heights(40, 30), tile=16, mode="sequential")
    found = reduce_tiles(Percentiles(50), doubled, tile=16, mode="sequential")
    assert found.values == pytest.approx(1199, rel=1e-4)


def test_a_histogram_needs_no_limits_before() -> None:
    whole = np.stack([heights(40, 30), heights(40, 30) - 600])
    counts, edges = Percentiles()(whole).histogram(bins=7)
    assert (edges[0], edges[-1]) == (-600, 1199)
    for band in (0, 1):
        assert counts[band].tolist() == np.histogram(whole[band], edges)[0].tolist()
    inside, _ = Percentiles()(whole[0]).histogram(bins=3, limits=(0, 299))
    assert inside.tolist() == np.histogram(whole[0], 3, (0, 299))[0].tolist()
    nothing, _ = Percentiles()(np.full((2, 2), np.nan)).histogram(bins=2)
    assert nothing.tolist() == [0, 0]


def test_what_is_no_percentile_is_named() -> None:
    with pytest.raises(ConfigurationError, match="percentiles: 101 given, numbers from 0 to 100"):
        Percentiles(50, 101)
    with pytest.raises(ConfigurationError, match="relative_error: 0 given, a number from 1e-06"):
        Percentiles(50, relative_error=0)
    with pytest.raises(TypeError, match="an array of complex128 given, real numbers expected"):
        Percentiles(50)(np.ones((2, 2), complex))
    with pytest.raises(ValueError, match="do not add up"):
        Percentiles(50)(np.ones((2, 2))) + Percentiles(50)(np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match="tuples of 1 and of 2 results do not add up"):
        reduce_tiles(
            lambda z: (1,) * int(z[0, 0]), np.array([[1, 2]]), tile=(1, 1), mode="sequential"
        )
