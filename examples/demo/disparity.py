"""Dense matching of a rectified stereo pair, and the geometry that makes points of it.

Arrays are (rows, columns); disparities are in pixels: what column `c` of the left image shows is
in column ``c - disparity`` of the right one. NaN is a pixel that has no match.
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window as RasterWindow

Image: TypeAlias = npt.NDArray[np.uint8]
Disparities: TypeAlias = npt.NDArray[np.float32]
Pixels: TypeAlias = npt.NDArray[np.float64]

STEPS_PER_PIXEL: Final = 16
"""OpenCV gives disparities in sixteenths of a pixel."""

BAD_PX: Final = 2.0
"""A pixel is bad if its disparity is off by more: the first figure of Middlebury's tables."""

THRESHOLDS_PX: Final = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True)
class MatchingSettings:
    """Semi-global matching (Hirschmueller 2008), as OpenCV does it; values that its manual advises.

    Attributes
    ----------
    disparities : int
        Disparities searched, from 0; a multiple of 16.
    block_px : int
        Side of the window that pixels are compared over.
    small_jump, large_jump : int
        Penalties for a change of disparity by 1 and by more, per pixel of the window and channel.
    prefilter_cap : int
        Where the horizontal gradient that is compared is cut off.
    uniqueness_percent : int
        How much better than the second the best match must be.
    left_right_px : float
        Largest difference from the match found the other way round.
    speckle_px, speckle_jump_px : int
        Islands of fewer pixels are dropped; a jump of more is a shore.
    """

    disparities: int = 80
    block_px: int = 3
    small_jump: int = 8
    large_jump: int = 32
    prefilter_cap: int = 15
    uniqueness_percent: int = 10
    left_right_px: float = 1.0
    speckle_px: int = 100
    speckle_jump_px: int = 1


def match(left: Image, right: Image, settings: MatchingSettings | None = None) -> Disparities:
    """Match two rectified images (rows, columns, 3); keep what both directions agree on."""
    settings = settings or MatchingSettings()
    forward = _matched(left, right, settings)
    # The other way round: mirrored, the right image is a left one.
    backward = _matched(_mirrored(right), _mirrored(left), settings)[:, ::-1]
    disparity = np.where(_agree(forward, backward, settings.left_right_px), forward, -1)
    return _without_speckles(disparity, settings)


def _matched(left: Image, right: Image, settings: MatchingSettings) -> Disparities:
    """Disparity of each pixel of `left`; -1 where there is no match."""
    per_window = settings.block_px**2 * left.shape[2]
    matcher = cv2.StereoSGBM.create(
        minDisparity=0,
        numDisparities=settings.disparities,
        blockSize=settings.block_px,
        P1=settings.small_jump * per_window,
        P2=settings.large_jump * per_window,
        disp12MaxDiff=-1,
        preFilterCap=settings.prefilter_cap,
        uniquenessRatio=settings.uniqueness_percent,
        mode=cv2.STEREO_SGBM_MODE_HH,
    )
    # OpenCV leaves the first columns out, whatever their match: give it some to leave out.
    margin = settings.disparities
    wide = [cv2.copyMakeBorder(i, 0, 0, margin, 0, cv2.BORDER_REPLICATE) for i in (left, right)]
    steps = matcher.compute(*wide)[:, margin:]
    return np.maximum(steps.astype(np.float32) / STEPS_PER_PIXEL, -1)


def _mirrored(image: Image) -> Image:
    return np.ascontiguousarray(image[:, ::-1])


def _agree(forward: Disparities, backward: Disparities, within_px: float) -> npt.NDArray[np.bool_]:
    columns = np.arange(forward.shape[1])
    matching = np.rint(columns - forward).astype(np.intp)
    back = np.take_along_axis(backward, np.clip(matching, 0, len(columns) - 1), axis=1)
    inside = (forward >= 0) & (matching >= 0)
    return np.asarray(inside & (np.abs(forward - back) <= within_px))


def _without_speckles(disparity: Disparities, settings: MatchingSettings) -> Disparities:
    steps = np.rint(disparity * STEPS_PER_PIXEL).astype(np.int16)
    jump = settings.speckle_jump_px * STEPS_PER_PIXEL
    cv2.filterSpeckles(steps, -STEPS_PER_PIXEL, settings.speckle_px, jump)
    kept = steps.astype(np.float32) / STEPS_PER_PIXEL
    return np.where(kept < 0, np.float32(np.nan), kept)


@dataclass(frozen=True)
class MatchingError:
    """A disparity map against the truth.

    Attributes
    ----------
    bad_percent : float
        Share of the pixels that have both a disparity and a truth, off by more than 2 px.
    median_error_px : float
        Median of the absolute error of the same pixels.
    density_percent : float
        Share of the pixels of known truth that have a disparity.
    compared : int
        Pixels that have both.
    over_px, over_percent : tuple of float
        Thresholds, and the share of the same pixels that are off by more.
    """

    bad_percent: float
    median_error_px: float
    density_percent: float
    compared: int
    over_px: tuple[float, ...]
    over_percent: tuple[float, ...]


def measure_error(disparity: Disparities, truth: Disparities) -> MatchingError:
    """Compare a disparity map with the truth.

    Raises
    ------
    ValueError
        If their shapes differ or no pixel has both.
    """
    if disparity.shape != truth.shape:
        raise ValueError(f"disparity of shape {disparity.shape}, truth of shape {truth.shape}")
    known = np.isfinite(truth)
    both = known & np.isfinite(disparity)
    if not both.any():
        raise ValueError("no pixel has both a disparity and a truth")
    error = np.abs(disparity[both] - truth[both])
    return MatchingError(
        bad_percent=float(np.mean(error > BAD_PX) * 100),
        median_error_px=float(np.median(error)),
        density_percent=float(both.sum() / known.sum() * 100),
        compared=int(both.sum()),
        over_px=THRESHOLDS_PX,
        over_percent=tuple(float(np.mean(error > limit) * 100) for limit in THRESHOLDS_PX),
    )


@dataclass(frozen=True)
class Calibration:
    """Two identical cameras side by side.

    Attributes
    ----------
    focal_px : float
        Focal length.
    centre_x_px, centre_y_px : float
        Principal point of the left camera.
    offset_px : float
        How much further right the principal point of the right camera is.
    baseline_m : float
        Distance between the cameras.
    """

    focal_px: float
    centre_x_px: float
    centre_y_px: float
    offset_px: float
    baseline_m: float

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the JSON that `write` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def write(self, path: Path) -> Path:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        return path

    def depth_m(self, disparity: npt.NDArray[Any]) -> Pixels:
        """Return the distance along the optical axis."""
        shifted = np.asarray(disparity, dtype=np.float64) + self.offset_px
        return np.asarray(self.focal_px * self.baseline_m / shifted)

    def points_m(
        self, disparity: Disparities, first_row: int, first_col: int
    ) -> tuple[Pixels, Pixels, Pixels, npt.NDArray[np.bool_]]:
        """Place each pixel that has a disparity in space.

        Parameters
        ----------
        disparity : array of shape (rows, columns)
            A part of the image.
        first_row, first_col : int
            Where it begins in the image.

        Returns
        -------
        x, y, z : arrays of shape (points,)
            To the right, up and away from the left camera, in m.
        matched : array of shape (rows, columns)
            Which pixels they are.
        """
        matched = np.isfinite(disparity)
        rows, cols = np.nonzero(matched)
        z = self.depth_m(disparity[matched])
        x = (cols + first_col - self.centre_x_px) * z / self.focal_px
        y = (self.centre_y_px - rows - first_row) * z / self.focal_px
        return x, y, z, matched


@contextmanager
def open_raster(path: Path) -> Iterator[Any]:
    """Open an image that need not be placed on Earth."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as raster:
            yield raster


def read_part(path: Path, rows: tuple[int, int], cols: tuple[int, int]) -> npt.NDArray[Any]:
    """Read rows ``[first, end)`` and columns ``[first, end)``; bands, if several, come last."""
    window = RasterWindow.from_slices(rows, cols)
    with open_raster(path) as raster:
        bands = raster.read(window=window)
    return np.ascontiguousarray(bands[0] if len(bands) == 1 else np.moveaxis(bands, 0, -1))


def read_raster(path: Path) -> npt.NDArray[Any]:
    """Read a whole raster; bands, if several, come last."""
    with open_raster(path) as raster:
        shape = raster.shape
    return read_part(path, (0, shape[0]), (0, shape[1]))


def write_raster(path: Path, values: npt.NDArray[Any], nodata: float | None = None) -> Path:
    """Write an image of shape (rows, columns[, bands]); the extension says the format."""
    bands = values[np.newaxis] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    driver = {".png": "PNG", ".tif": "GTiff"}[path.suffix]
    count, height, width = bands.shape
    profile = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver=driver, nodata=nodata, **profile) as raster:
            raster.write(bands)
    return path
