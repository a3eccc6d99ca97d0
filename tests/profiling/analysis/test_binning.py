"""Many tasks in few bins: nothing is lost, and nothing counted twice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batuta.profiling.analysis.binning import busy_time_per_bin, downsample, peak_memory_per_bin
from batuta.profiling.capture.records import WorkerId
from tests.profiling.profile_builder import (
    BEGIN_S,
    MB,
    ProfileBuilder,
    TaskSpec,
    make_run,
    simulate_run,
)


def test_a_task_is_shared_out_over_the_bins_that_it_lasts() -> None:
    builder = ProfileBuilder()
    builder.add(TaskSpec(name="a", wall_s=2.5), start_s=0.5)
    builder.add(TaskSpec(name="b", wall_s=0.25), start_s=3.25)
    busy = busy_time_per_bin(builder.analysis().attempts, ["name"], BEGIN_S + np.arange(6.0))
    assert busy["a",] == pytest.approx([0.5, 1, 1, 0, 0])
    assert busy["b",] == pytest.approx([0, 0, 0, 0.25, 0])


def test_lanes_of_the_same_key_add_up() -> None:
    builder = ProfileBuilder(make_run(nb_workers=None))
    for pid in range(3):
        builder.add(TaskSpec(wall_s=2), worker=WorkerId(f"w{pid}", "north", pid))
    busy = busy_time_per_bin(builder.analysis().attempts, ["host"], BEGIN_S + np.arange(3.0))
    assert busy["north",] == pytest.approx([3, 3])


def test_time_that_two_tasks_of_a_lane_claim_counts_once() -> None:
    builder = ProfileBuilder(make_run(nb_workers=1))
    builder.add(TaskSpec(wall_s=2))
    builder.add(TaskSpec(wall_s=2), start_s=1.5)
    busy = busy_time_per_bin(builder.analysis().attempts, ["host"], BEGIN_S + np.arange(6.0))
    assert busy["north",] == pytest.approx([1, 1, 1, 0.5, 0])


@settings(max_examples=30)  # each analyses a profile
@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=30), st.integers(1, 40))
def test_all_the_time_of_tasks_is_in_some_bin(walls: list[float], bins: int) -> None:
    analysis = simulate_run([TaskSpec(wall_s=wall) for wall in walls], gap_s=0.1).analysis()
    edges = np.linspace(analysis.begin_s, analysis.end_s, bins + 1)
    busy = busy_time_per_bin(analysis.attempts, ["name", "lane"], edges)
    # Unix time is kept to a quarter of a microsecond.
    assert sum(part.sum() for part in busy.values()) == pytest.approx(sum(walls), abs=1e-5)


def test_the_highest_peak_of_each_bin_is_kept() -> None:
    builder = ProfileBuilder()
    for start_s, peak_mb in [(0, 100), (0.4, 300), (0.8, 200), (3, 50)]:
        builder.add(TaskSpec(wall_s=0.1, peak_mb=peak_mb), start_s=start_s)
    found = peak_memory_per_bin(builder.analysis().attempts, BEGIN_S + np.arange(5.0))
    np.testing.assert_equal(found, {0: [300 * MB, np.nan, np.nan, 50 * MB]})


def test_a_grid_that_fits_is_left() -> None:
    grid = np.arange(6.0).reshape(2, 3)
    cells, side = downsample(grid, 3)
    assert side == 1
    np.testing.assert_equal(cells, grid)


def test_a_cell_of_a_large_grid_is_the_highest_of_its_block() -> None:
    grid = np.full((5, 7), np.nan)
    grid[0, 0], grid[1, 1], grid[4, 6] = 1, 2, 9
    cells, side = downsample(grid, 4)
    assert side == 2
    nothing = np.nan
    expected = [[2, nothing, nothing, nothing], [nothing] * 4, [nothing, nothing, nothing, 9]]
    np.testing.assert_equal(cells, expected)
