"""Percentiles and histograms of rasters, from counts that add up tile by tile.

Values are counted rounded to a number of significant bits: the bins of a log-linear histogram, as
HdrHistogram has them (G. Tene, hdrhistogram.org); DDSketch proves what such bins bound: the
relative error of a value, whatever its distribution (C. Masson, J. E. Rim and H. K. Lee, "DDSketch:
a fast and fully-mergeable quantile sketch with relative-error guarantees", PVLDB 12, 2019). Counts
are sums, so that the result is the same whatever the tiles, their order and the workers.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from batuta.errors import ConfigurationError, describe_value

RELATIVE_ERROR: Final = 1e-4
"""The default: 0.01 %."""

_SMALLEST_ERROR: Final = 1e-6
"""Keys of more bits would not fit in 32."""
_LARGEST_ERROR: Final = 0.1
_MANTISSA_BITS: Final = 52
_WITHOUT_SIGN: Final = np.int64(0x7FFF_FFFF_FFFF_FFFF)
_SPREAD: Final = 4
"""Keys that are spread wider than so many times their number are sorted, not indexed."""

Counts = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]
"""Keys in ascending order, and how often each occurs."""


class Percentiles:
    """Percentiles of pixels, as a function for `reduce_tiles`.

    Parameters
    ----------
    *percentiles : float
        From 0 to 100; those that `PercentileSketch.values` holds.
    relative_error : float
        How far a pixel's value may be off, relative to it; 1e-6 to 0.1. Smaller ones take more
        memory: at 1e-4, 16 kB for each factor of two that values span.

    Raises
    ------
    ConfigurationError
        In one line, if these are no such numbers.
    """

    def __init__(self, *percentiles: float, relative_error: float = RELATIVE_ERROR) -> None:
        for each in percentiles:
            if not isinstance(each, int | float) or not 0 <= each <= 100:
                raise ConfigurationError(
                    f"percentiles: {describe_value(each)} given, numbers from 0 to 100 expected"
                )
        is_number = isinstance(relative_error, int | float)
        if not is_number or not _SMALLEST_ERROR <= relative_error <= _LARGEST_ERROR:
            raise ConfigurationError(
                f"relative_error: {describe_value(relative_error)} given, a number from"
                f" {_SMALLEST_ERROR:g} to {_LARGEST_ERROR:g} expected"
            )
        self._percentiles = tuple(map(float, percentiles))
        # Rounding to so many bits after the first errs by half of the last one.
        self._bits = math.ceil(-math.log2(relative_error)) - 1

    def __call__(self, pixels: npt.NDArray[Any]) -> "PercentileSketch":
        """Return the sketch of an array of shape (rows, columns), or of each of its bands."""
        if pixels.dtype.kind not in "biuf":
            raise TypeError(f"an array of {pixels.dtype} given, real numbers expected")
        bands = pixels if pixels.ndim == 3 else pixels[np.newaxis]
        return PercentileSketch(
            percentiles=self._percentiles,
            bits=self._bits,
            bands=tuple(_BandSketch.of(each, self._bits) for each in bands),
            is_banded=pixels.ndim == 3,
        )


@dataclass(frozen=True, kw_only=True)
class _BandSketch:
    """The rounded values of a band, counted, and the exact lowest and highest one."""

    counts: Counts
    minimum: float
    maximum: float

    @classmethod
    def of(cls, pixels: npt.NDArray[Any], bits: int) -> Self:
        masked = np.ma.asarray(pixels)
        values = masked.compressed().astype(np.float64)
        values = values[~np.isnan(values)]
        if not values.size:
            nothing = (np.empty(0, np.int32), np.empty(0, np.int64))
            return cls(counts=nothing, minimum=np.nan, maximum=np.nan)
        return cls(
            counts=_count(_keys_of(values, bits)),
            minimum=float(values.min()),
            maximum=float(values.max()),
        )

    def __add__(self, other: Self) -> Self:
        keys = np.concatenate([self.counts[0], other.counts[0]])
        counts = np.concatenate([self.counts[1], other.counts[1]])
        order = np.argsort(keys, kind="stable")
        keys, counts = keys[order], counts[order]
        firsts = np.flatnonzero(np.diff(keys, prepend=np.int32(np.iinfo(np.int32).min)))
        total = np.add.reduceat(counts, firsts) if keys.size else counts
        return type(self)(
            counts=(keys[firsts], total),
            minimum=float(np.fmin(self.minimum, other.minimum)),
            maximum=float(np.fmax(self.maximum, other.maximum)),
        )

    def at(self, percentiles: Iterable[float], bits: int) -> list[float]:
        keys, counts = self.counts
        last = int(counts.sum()) - 1
        if last < 0:
            return [math.nan for _ in percentiles]
        values, ends = _values_of(keys, bits), np.cumsum(counts)

        def ranked(rank: int) -> float:
            if rank in {0, last}:
                return self.maximum if rank else self.minimum
            value = float(values[np.searchsorted(ends, rank, side="right")])
            return min(max(value, self.minimum), self.maximum)

        found = []
        for each in percentiles:
            below, part = divmod(each / 100 * last, 1)
            low = ranked(int(below))
            found.append(low + part * (ranked(int(below) + 1) - low) if part else low)
        return found


@dataclass(frozen=True, kw_only=True)
class PercentileSketch:
    """Pixels counted by their rounded values; those of two parts add up to those of both.

    Pixels that are NaN or masked do not count.

    Parameters
    ----------
    percentiles : tuple of float
        Those that were asked for.
    bits : int
        Significant bits of the values, but for the first.
    bands : tuple
        The counts of each band.
    is_banded : bool
        Whether results have an axis of bands.
    """

    percentiles: tuple[float, ...]
    bits: int
    bands: tuple[_BandSketch, ...]
    is_banded: bool

    @property
    def relative_error(self) -> float:
        """How far the value of a pixel may be off, relative to it."""
        return float(2.0 ** -(self.bits + 1))

    @property
    def count(self) -> Any:
        """Pixels with a value: a number, or an array with one for each band."""
        return self._shaped([int(each.counts[1].sum()) for each in self.bands])

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """The percentiles that were asked for: see `at`."""
        return self.at(*self.percentiles)

    def at(self, *percentiles: float) -> npt.NDArray[np.float64]:
        """Return percentiles, as `numpy.percentile` has them; NaN where there are no pixels.

        Each is between two neighbours in the order of all pixels, of which each is off by no more
        than `relative_error`. The percentiles 0 and 100, and whole numbers that are smaller than
        1 / `relative_error`, are exact.

        Returns
        -------
        array of shape (percentiles,) or (percentiles, bands)
        """
        found = np.array([each.at(percentiles, self.bits) for each in self.bands]).T
        return found if self.is_banded else found[:, 0]

    def histogram(
        self, bins: int = 10, limits: tuple[float, float] | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return how many pixels are in each of so many bins, and the edges of the bins.

        As `numpy.histogram`, but that a pixel counts by its rounded value: one that is nearer to
        an edge than `relative_error` may be in the next bin.

        Parameters
        ----------
        bins : int
            How many, of one width.
        limits : (float, float), optional
            Pixels outside do not count. Default: the lowest and the highest finite value.

        Returns
        -------
        counts : array of shape (bins,) or (bands, bins)
        edges : array of shape (bins + 1,)
        """
        valued = [(_values_of(each.counts[0], self.bits), each.counts[1]) for each in self.bands]
        finite = [values[np.isfinite(values)] for values, _ in valued]
        if limits is None and any(each.size for each in finite):
            together = np.concatenate(finite)
            limits = float(together.min()), float(together.max())
        edges = np.histogram_bin_edges(np.empty(0), bins, limits)
        counts = [np.histogram(values, edges, weights=weights)[0] for values, weights in valued]
        return self._shaped(counts), edges

    def __add__(self, other: Self) -> Self:
        mine, theirs = (self.bits, len(self.bands)), (other.bits, len(other.bands))
        if mine != theirs:
            raise ValueError(
                f"sketches of {mine[0]} bits and {mine[1]} bands, and of {theirs[0]} bits and"
                f" {theirs[1]} bands, do not add up"
            )
        return type(self)(
            percentiles=self.percentiles,
            bits=self.bits,
            bands=tuple(one + two for one, two in zip(self.bands, other.bands, strict=True)),
            is_banded=self.is_banded,
        )

    def __repr__(self) -> str:
        shown = dict(zip(self.percentiles, self.values.tolist(), strict=True))
        return f"<PercentileSketch of {self.count} pixels: {shown}>"

    def _shaped(self, by_band: list[Any]) -> Any:
        return np.array(by_band) if self.is_banded else by_band[0]


def _keys_of(values: npt.NDArray[np.float64], bits: int) -> npt.NDArray[np.int32]:
    """Return integers in the order of the values, equal where these are once rounded.

    The bits of a positive float, as an integer, are in its order; the last ones are rounded off.
    """
    shift = _MANTISSA_BITS - bits
    raw = values.view(np.int64)
    magnitudes = (((raw & _WITHOUT_SIGN) + (1 << (shift - 1))) >> shift).astype(np.int32)
    return np.where(raw < 0, -magnitudes, magnitudes)


def _values_of(keys: npt.NDArray[np.int32], bits: int) -> npt.NDArray[np.float64]:
    """Return the rounded values that keys stand for."""
    magnitudes = (np.abs(keys).astype(np.int64) << (_MANTISSA_BITS - bits)).view(np.float64)
    return np.where(keys < 0, -magnitudes, magnitudes)


def _count(keys: npt.NDArray[np.int32]) -> Counts:
    # Zero is far from the keys of all other values.
    parts = [_count_near(keys[keys < 0]), _count_near(keys[keys == 0]), _count_near(keys[keys > 0])]
    return np.concatenate([each[0] for each in parts]), np.concatenate([each[1] for each in parts])


def _count_near(keys: npt.NDArray[np.int32]) -> Counts:
    if keys.size and int(keys.max()) - int(keys.min()) < _SPREAD * keys.size:
        first = int(keys.min())
        counts = np.bincount(keys - first)
        (found,) = counts.nonzero()
        near: npt.NDArray[np.int32] = (found + first).astype(np.int32)
        return near, counts[found].astype(np.int64)
    distinct, counts = np.unique(keys, return_counts=True)
    return distinct, counts.astype(np.int64)
