"""Statistics of rasters that add up tile by tile."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Count, mean, spread and range of pixels; those of two parts add up to those of both.

    Each is a number, or an array with one for each band. Pixels that are NaN or masked do not
    count. Sums of squares are combined as in Chan, Golub and LeVeque, "Updating formulae and a
    pairwise algorithm for computing sample variances" (Stanford, 1979): no difference of large
    sums is taken.

    Parameters
    ----------
    count
        Pixels with a value.
    mean
        NaN where there are none.
    squares
        Sum of the squared differences from the mean.
    minimum, maximum
        NaN where there are none.
    """

    count: Any
    mean: Any
    squares: Any
    minimum: Any
    maximum: Any

    @classmethod
    def of(cls, pixels: npt.NDArray[Any]) -> Self:
        """Return the statistics of an array of shape (rows, columns), or of each of its bands."""
        values = np.ma.filled(np.ma.asarray(pixels).astype(np.float64), np.nan)
        known = ~np.isnan(values)
        pixel_axes = (-2, -1)
        count = known.sum(axis=pixel_axes)
        some = count > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(known, values, 0).sum(axis=pixel_axes) / count
        away = np.where(known, values - np.asarray(mean)[..., np.newaxis, np.newaxis], 0)
        lowest = np.where(known, values, np.inf).min(axis=pixel_axes, initial=np.inf)
        highest = np.where(known, values, -np.inf).max(axis=pixel_axes, initial=-np.inf)
        return cls(
            count=_plain(count),
            mean=_plain(mean),
            squares=_plain((away**2).sum(axis=pixel_axes)),
            minimum=_plain(np.where(some, lowest, np.nan)),
            maximum=_plain(np.where(some, highest, np.nan)),
        )

    @property
    def std(self) -> Any:
        """Standard deviation of all pixels: that of a population."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return _plain(np.sqrt(np.asarray(self.squares) / np.asarray(self.count)))

    def __add__(self, other: Self) -> Self:
        mine, theirs = np.asarray(self.count), np.asarray(other.count)
        count = mine + theirs
        # Of a part without pixels, the mean does not matter.
        first = np.where(mine > 0, self.mean, other.mean)
        second = np.where(theirs > 0, other.mean, first)
        difference = second - first
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(count > 0, theirs / count, 0.0)
        return type(self)(
            count=_plain(count),
            mean=_plain(first + difference * share),
            squares=_plain(
                np.asarray(self.squares)
                + other.squares
                + np.where(count > 0, difference**2 * mine * share, 0.0)
            ),
            minimum=_plain(np.fmin(self.minimum, other.minimum)),
            maximum=_plain(np.fmax(self.maximum, other.maximum)),
        )


def _plain(values: Any) -> Any:
    """Return a number in the place of an array without axes."""
    array = np.asarray(values)
    return array.item() if array.ndim == 0 else array
