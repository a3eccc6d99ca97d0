"""Two satellite images of one place, brought to rows that correspond, and matched tile by tile.

Seen from far away, the geometry of a small scene is affine: every point seen at (x, y) in one
image and (x', y') in the other satisfies ``a x + b y + c x' + d y' + e = 0``. Turned and scaled so
that both sides of this equation are rows, the images differ along columns only.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr

from batuta.datasets import CarsDataset, Overlaps, Window, fill_dataset
from batuta.orchestrator import Orchestrator, update_saving_infos

Image: TypeAlias = npt.NDArray[np.uint8]
Points: TypeAlias = npt.NDArray[np.float64]

LOWEST: Final = -48
SEARCHED: Final = 96
BLOCK_PX: Final = 15
STEPS_PER_PIXEL: Final = 16
UNMATCHED: Final = np.float32(LOWEST - 1)

# A match looks half a block and the prefilter's pixel far, and along rows the range searched.
COL_MARGIN_PX: Final = SEARCHED + BLOCK_PX
ROW_MARGIN_PX: Final = BLOCK_PX + 1
"""Even, as the height of the images and of tiles: OpenCV leaves out a last odd row of them."""


@dataclass(frozen=True)
class Pair:
    """Two images of shape (rows, columns) whose rows correspond, and points matched by hand.

    Parameters
    ----------
    left, right : array
        The images.
    left_points, right_points : array of shape (points, 2)
        The same places in both, x before y, found without dense matching.
    """

    left: Image
    right: Image
    left_points: Points
    right_points: Points


def rectified(left_path: Path, right_path: Path) -> Pair:
    """Read two images and bring them to rows that correspond."""
    left, right = _read(left_path), _read(right_path)
    in_left, in_right = _correspondences(left, right)
    normal, offset, fitting = _epipolar(in_left, in_right)
    in_left, in_right = in_left[fitting], in_right[fitting]
    scale = np.sqrt(np.linalg.norm(normal[:2]) * np.linalg.norm(normal[2:]))
    to_left = _turned(normal[:2] / scale, offset / scale)
    to_right = _turned(-normal[2:] / scale, 0.0)
    # What is common to all columns' differences says nothing of the ground.
    wanted, given = _moved(to_left, in_left), _moved(to_right, in_right)
    terms = np.column_stack([given, np.ones(len(given))])
    to_right[0] = np.linalg.lstsq(terms, wanted[:, 0], rcond=None)[0] @ np.vstack(
        [to_right, [0, 0, 1]]
    )
    shape, shift = _extent(to_left, left.shape)
    for transform in (to_left, to_right):
        transform[:, 2] -= shift
    return Pair(
        cv2.warpAffine(left, to_left, shape).astype(np.uint8),
        cv2.warpAffine(right, to_right, shape).astype(np.uint8),
        _moved(to_left, in_left),
        _moved(to_right, in_right),
    )


def _read(path: Path) -> Image:
    """Read an image and stretch it to bytes."""
    with rasterio.open(path) as raster:
        values = raster.read(1).astype(np.float64)
    low, high = np.percentile(values, (1, 99))
    stretched: Image = np.clip((values - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    return stretched


def _correspondences(left: Image, right: Image) -> tuple[Points, Points]:
    """Find places that look alike (SIFT), where the second best is clearly worse."""
    finder: Any = cv2.SIFT_create(6000)  # type: ignore[attr-defined]  # OpenCV's stubs lack it
    left_keys, left_looks = finder.detectAndCompute(left, None)
    right_keys, right_looks = finder.detectAndCompute(right, None)
    found = cv2.BFMatcher().knnMatch(left_looks, right_looks, k=2)
    sure = [best for best, second in found if best.distance < 0.7 * second.distance]
    return (
        np.array([left_keys[each.queryIdx].pt for each in sure], dtype=np.float64),
        np.array([right_keys[each.trainIdx].pt for each in sure], dtype=np.float64),
    )


def _epipolar(left: Points, right: Points) -> tuple[Points, float, npt.NDArray[np.bool_]]:
    """Fit the affine epipolar equation to what agrees on one; tell which points do."""
    joint = np.hstack([left, right])
    fitting = np.ones(len(joint), dtype=bool)
    for _ in range(20):
        centre = joint[fitting].mean(axis=0)
        normal = np.linalg.svd(joint[fitting] - centre, full_matrices=False)[2][-1]
        residuals = np.abs((joint - centre) @ normal)
        fitting = residuals < max(1.0, 4 * float(np.median(residuals[fitting])))
    return normal, float(-normal @ centre), fitting


def _turned(normal: Points, offset: float) -> Points:
    """Return the affine transform whose rows are `normal` times the point, plus `offset`."""
    return np.array([[normal[1], -normal[0], 0.0], [normal[0], normal[1], offset]])


def _moved(transform: Points, points: Points) -> Points:
    moved: Points = points @ transform[:, :2].T + transform[:, 2]
    return moved


def _extent(transform: Points, shape: tuple[int, ...]) -> tuple[tuple[int, int], Points]:
    """Return width and height of what an image becomes, and where it begins."""
    rows, cols = shape
    corners = _moved(transform, np.array([[0, 0], [cols, 0], [0, rows], [cols, rows]], dtype=float))
    first = np.floor(corners.min(axis=0))
    width, height = np.ceil((corners.max(axis=0) - first) / 2).astype(int) * 2
    return (int(width), int(height)), first


# Dense matching


def matched(left: Image, right: Image) -> npt.NDArray[np.float32]:
    """Return the disparity of each pixel of `left` by block matching, or UNMATCHED.

    What column `c` of `left` shows is in column ``c - disparity`` of `right`.
    """
    matcher = cv2.StereoBM.create(SEARCHED, BLOCK_PX)
    matcher.setMinDisparity(LOWEST)
    matcher.setUniquenessRatio(10)
    return matcher.compute(left, right).astype(np.float32) / np.float32(STEPS_PER_PIXEL)


def matched_tile(
    left: Image,
    right: Image,
    window: dict[str, int],
    overlaps: dict[str, int],
    saving_info: dict[str, Any],
) -> xr.Dataset:
    """Match a tile, its overlaps included."""
    tile = xr.Dataset({"disparity": (("row", "col"), matched(left, right))})
    fill_dataset(tile, saving_info=saving_info, window=window, overlaps=overlaps)
    return tile


def match_in_tiles(pair: Pair, output: Path, conf: dict[str, Any], tile_px: int) -> Path:
    """Match a pair tile by tile; give the file of disparities."""
    path = output / "disparity.tif"
    with Orchestrator(conf, output) as orchestrator:
        disparities = CarsDataset("arrays", name="disparity")
        rows, cols = pair.left.shape
        disparities.create_grid(cols, rows, tile_px, tile_px, ROW_MARGIN_PX, COL_MARGIN_PX)
        (info,) = orchestrator.get_saving_infos([disparities])
        for row, col in disparities.positions():
            window = disparities.get_window_as_dict(row, col)
            overlaps = disparities.get_overlaps_as_dict(row, col)
            part = _with_overlaps(Window.from_mapping(window), Overlaps.from_mapping(overlaps))
            disparities[row, col] = orchestrator.cluster.create_task(matched_tile)(
                pair.left[part],
                pair.right[part],
                window,
                overlaps,
                saving_info=update_saving_infos(info, row=row, col=col),
            )
        orchestrator.add_to_save_lists(path, "disparity", disparities, nodata=float(UNMATCHED))
    return path


def _with_overlaps(window: Window, overlaps: Overlaps) -> tuple[slice, slice]:
    return (
        slice(window.row_min - overlaps.up, window.row_max + overlaps.down),
        slice(window.col_min - overlaps.left, window.col_max + overlaps.right),
    )
