"""`reduce_tiles` gives one result of all tiles, the same whatever the tiles and the workers."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from batuta import Statistics, TilePlace, reduce_tiles
from batuta.datasets import TileError, Window
from batuta.errors import ConfigurationError
from batuta.orchestrator import TilesFailedError
from tests.tiling.rasters import heights, write_raster

WHOLE = heights(60, 50)


def histogram(z: npt.NDArray[Any]) -> Any:
    return np.histogram(z, bins=8, range=(0, 3000))[0]


@pytest.mark.parametrize("mode", ["sequential", "multiprocessing"])
def test_results_add_up_whoever_computes(tmp_path: Path, mode: str) -> None:
    dem = write_raster(tmp_path / "dem.tif", WHOLE)
    found = reduce_tiles(histogram, dem, tile=16, mode=mode)
    np.testing.assert_array_equal(found, histogram(WHOLE))
    statistics = reduce_tiles(Statistics.of, dem, tile=16, mode=mode)
    exact = WHOLE.astype("float64")
    assert (statistics.count, statistics.minimum, statistics.maximum) == (3000, 0.0, 2999.0)
    np.testing.assert_allclose([statistics.mean, statistics.std], [exact.mean(), exact.std()])


def test_a_function_of_ones_own_combines_results() -> None:
    def tallest(z: npt.NDArray[Any], place: TilePlace) -> tuple[float, tuple[int, int]]:
        row, col = np.unravel_index(np.argmax(z), z.shape)
        return float(z.max()), (int(row) + place.window.row_min, int(col) + place.window.col_min)

    highest, place = reduce_tiles(tallest, WHOLE, combine=max, tile=16, mode="sequential")
    assert highest == 2999.0
    assert WHOLE[place] == highest


def test_zones_are_counted_over_tiles_that_are_not_empty() -> None:
    zones = (WHOLE // 1000).astype("uint8")

    def count(z: npt.NDArray[Any]) -> Counter[int] | None:
        return Counter(z.ravel().tolist()) if z.any() else None

    assert reduce_tiles(count, zones, tile=(7, 9), mode="sequential") == Counter(
        {0: 1000, 1: 1000, 2: 1000}
    )


def test_only_the_region_counts() -> None:
    window = Window(5, 25, 10, 40)
    found = reduce_tiles(np.sum, WHOLE, region=window, tile=8, mode="sequential")
    assert found == WHOLE[5:25, 10:40].sum()


def test_nothing_to_combine_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="every tile is empty"):
        reduce_tiles(lambda z: None if z.any() else z, WHOLE, tile=20, mode="sequential")


@pytest.mark.parametrize(
    ("combine", "line"),
    [
        ("sum", "combine: 'sum' given, a function expected"),
        (lambda one: one, r"combine: <lambda>\(one\) is called with 2 results: too many"),
    ],
)
def test_what_cannot_combine_two_results_is_refused_before_any_tile(
    combine: Any, line: str
) -> None:
    def computed(_: npt.NDArray[Any]) -> float:
        raise AssertionError("a tile was computed")

    with pytest.raises(ConfigurationError, match=line):
        reduce_tiles(computed, WHOLE, combine=combine, mode="sequential")


def test_results_that_do_not_add_up_are_refused_at_the_first_tile() -> None:
    seen: list[int] = []

    def counted(z: npt.NDArray[Any]) -> tuple[float, dict[str, float]]:
        seen.append(1)
        return 1.0, {"sum": float(z.sum())}

    with pytest.raises(TileError, match="counted returned tuple, which does not add up; a func"):
        reduce_tiles(counted, WHOLE, tile=10, mode="sequential")
    assert seen == [1]


def test_a_tile_that_fails_fails_the_whole() -> None:
    def broken(z: npt.NDArray[Any], place: TilePlace) -> float:
        if place.window.row_min:
            raise ValueError("no light")
        return float(z.sum())

    for conf in ({}, {"on_tile_failure": "continue"}):
        mode = {"mode": "multiprocessing", **conf}
        with pytest.raises(TilesFailedError, match="no light"):
            reduce_tiles(broken, WHOLE, tile=(30, 50), mode=mode)


values_or_nan = st.floats(-1e6, 1e6, width=32) | st.just(float("nan"))


@settings(max_examples=60, deadline=None)
@given(
    pixels=arrays.arrays(
        "float32",
        st.tuples(st.just(2), st.integers(2, 9), st.integers(1, 9)),
        elements=values_or_nan,
    ),
    cut=st.integers(1, 8),
)
def test_statistics_of_parts_are_those_of_the_whole(pixels: npt.NDArray[Any], cut: int) -> None:
    found = Statistics.of(pixels[:, :cut]) + Statistics.of(pixels[:, cut:])
    for band, values in enumerate(pixels):
        known = values[~np.isnan(values)].astype("float64")
        assert found.count[band] == known.size
        if known.size:
            np.testing.assert_allclose(found.mean[band], known.mean(), rtol=1e-9, atol=1e-6)
            np.testing.assert_allclose(found.std[band], known.std(), rtol=1e-9, atol=1e-6)
            assert (found.minimum[band], found.maximum[band]) == (known.min(), known.max())
        else:
            assert np.isnan([found.mean[band], found.minimum[band], found.maximum[band]]).all()
