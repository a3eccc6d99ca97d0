"""Grids: every pixel in one tile, and no overlap beyond the image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batuta.datasets import CarsDataset, GridSpec, Overlaps, Window
from batuta.errors import ConfigurationError

SIZES = st.integers(1, 60)


@st.composite
def specs(draw: st.DrawFn) -> GridSpec:
    return GridSpec(
        rows=draw(SIZES),
        cols=draw(SIZES),
        row_split=draw(SIZES),
        col_split=draw(SIZES),
        row_overlap=draw(st.integers(0, 20)),
        col_overlap=draw(st.integers(0, 20)),
    )


def dataset_of(spec: GridSpec) -> CarsDataset:
    dataset = CarsDataset("arrays")
    dataset.create_grid(
        spec.cols, spec.rows, spec.row_split, spec.col_split, spec.row_overlap, spec.col_overlap
    )
    return dataset


@given(specs())
def test_tiles_cover_every_pixel_exactly_once(spec: GridSpec) -> None:
    dataset = dataset_of(spec)
    covered = np.zeros((spec.rows, spec.cols), dtype=int)
    for row, col in dataset.positions():
        window = Window.from_mapping(dataset.get_window_as_dict(row, col))
        covered[window.row_min : window.row_max, window.col_min : window.col_max] += 1
    assert (covered == 1).all()


@given(specs())
def test_overlaps_are_what_was_asked_or_what_the_image_leaves(spec: GridSpec) -> None:
    dataset = dataset_of(spec)
    for row, col in dataset.positions():
        window = Window.from_mapping(dataset.get_window_as_dict(row, col))
        assert Overlaps.from_mapping(dataset.get_overlaps_as_dict(row, col)) == Overlaps(
            up=min(spec.row_overlap, window.row_min),
            down=min(spec.row_overlap, spec.rows - window.row_max),
            left=min(spec.col_overlap, window.col_min),
            right=min(spec.col_overlap, spec.cols - window.col_max),
        )


@given(specs())
def test_all_tiles_but_the_last_have_the_size_that_was_asked(spec: GridSpec) -> None:
    dataset = dataset_of(spec)
    rows, cols = dataset.shape
    for row, col in dataset.positions():
        height, width = Window.from_mapping(dataset.get_window_as_dict(row, col)).shape
        assert height == spec.row_split or row == rows - 1
        assert width == spec.col_split or col == cols - 1


def test_every_wrong_size_is_named() -> None:
    with pytest.raises(ConfigurationError) as caught:
        CarsDataset("arrays").create_grid(0, 5, 2.5, 1, -1, True)  # type: ignore[arg-type]
    assert caught.value.problems == (
        "cols: 0 given, a whole number of at least 1 expected",
        "row_split: 2.5 given, a whole number of at least 1 expected",
        "row_overlap: -1 given, a whole number of at least 0 expected",
        "col_overlap: True given, a whole number of at least 0 expected",
    )


def test_a_terrain_grid_counts_rows_downwards_from_its_top() -> None:
    dataset = CarsDataset("arrays")
    grid = np.zeros((1, 2, 4))
    grid[0, 0], grid[0, 1] = [100, 110, 40, 45], [100, 110, 45, 50]  # x_min, x_max, y_min, y_max
    dataset.tiling_grid = grid
    windows = [
        dataset.get_window_as_dict(0, col, from_terrain=True, resolution=0.5) for col in (0, 1)
    ]
    assert windows[1] == {"row_min": 0, "row_max": 10, "col_min": 0, "col_max": 20}
    assert windows[0] == {"row_min": 10, "row_max": 20, "col_min": 0, "col_max": 20}
