import numpy as np
import pytest

from examples.demo.disparity import MatchingSettings, match, measure_error
from examples.demo.observations import MOTORCYCLE
from tests.examples.products import Pair


def test_the_motorcycle_is_matched_within_the_stated_figures(pair: Pair) -> None:
    error = measure_error(match(pair.left, pair.right), pair.truth)
    assert error.bad_percent < 4.5
    assert error.density_percent > 88
    assert error.median_error_px < 0.2


def test_a_shift_of_known_size_is_found(pair: Pair) -> None:
    right = np.roll(pair.left, -20, axis=1)
    disparity = match(pair.left, right)
    found = disparity[:, 40:-80]
    assert np.nanmedian(found) == 20
    assert np.mean(np.abs(found - 20) < 0.5) > 0.9


def test_what_is_left_of_the_other_image_has_no_match(pair: Pair) -> None:
    disparity = match(pair.left, pair.right)
    matched = np.isfinite(disparity)
    columns = np.broadcast_to(np.arange(disparity.shape[1]), disparity.shape)
    assert np.all(columns[matched] - disparity[matched] >= -0.5)


def test_a_stricter_check_keeps_less_and_errs_less(pair: Pair) -> None:
    rows = slice(150, 350)
    left, right = pair.left[rows], pair.right[rows]
    loose, strict = (
        measure_error(match(left, right, MatchingSettings(left_right_px=limit)), pair.truth[rows])
        for limit in (80.0, 1.0)
    )
    assert strict.density_percent < loose.density_percent
    assert strict.bad_percent < loose.bad_percent


def test_the_error_counts_only_pixels_that_have_both() -> None:
    truth = np.array([[10, 10, 10, np.nan]], dtype=np.float32)
    disparity = np.array([[10.5, 13, np.nan, 5]], dtype=np.float32)
    error = measure_error(disparity, truth)
    assert error.compared == 2
    assert error.bad_percent == 50
    assert error.median_error_px == 1.75
    assert error.density_percent == pytest.approx(200 / 3)


def test_maps_of_different_shapes_are_not_compared() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        measure_error(np.zeros((2, 2), np.float32), np.zeros((3, 2), np.float32))


def test_a_map_without_any_match_is_refused() -> None:
    nothing = np.full((2, 2), np.nan, np.float32)
    with pytest.raises(ValueError, match="no pixel"):
        measure_error(nothing, np.zeros((2, 2), np.float32))


def test_points_fall_back_on_the_pixels_they_come_from(pair: Pair) -> None:
    part = pair.truth[100:140, 200:260]
    x, y, z, matched = MOTORCYCLE.points_m(part, 100, 200)
    rows, cols = np.nonzero(matched)
    focal = MOTORCYCLE.focal_px
    np.testing.assert_allclose(x * focal / z + MOTORCYCLE.centre_x_px, cols + 200)
    np.testing.assert_allclose(MOTORCYCLE.centre_y_px - y * focal / z, rows + 100)
    shifted = focal * MOTORCYCLE.baseline_m / z - MOTORCYCLE.offset_px
    np.testing.assert_allclose(shifted, part[matched], rtol=1e-5)


def test_the_scene_is_the_size_of_a_garage(pair: Pair) -> None:
    """The calibration is at the scale of the images: the motorcycle is 2 to 3 m away."""
    depth = MOTORCYCLE.depth_m(pair.truth)
    assert 2 < np.nanmin(depth) < 2.5
    assert 4.5 < np.nanmax(depth) < 5.5
