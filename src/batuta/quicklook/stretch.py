"""From values to colours: percentile stretch and colour map."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

LOW_PERCENT: Final = 2.0
HIGH_PERCENT: Final = 98.0
_MAX_SAMPLE: Final = 500_000

_VIRIDIS: Final = np.array(
    [
        (68, 1, 84),
        (71, 44, 122),
        (59, 81, 139),
        (44, 113, 142),
        (33, 144, 141),
        (39, 173, 129),
        (92, 200, 99),
        (170, 220, 50),
        (253, 231, 37),
    ],
    dtype=np.float64,
)
"""Its even to the eye, and for those who tell few colours apart."""


def value_range(
    values: Array, low: float = LOW_PERCENT, high: float = HIGH_PERCENT
) -> tuple[float, float]:
    """Return two percentiles of the values that are finite; equal ones are spread by 1."""
    finite = values[np.isfinite(values)].ravel()
    if not finite.size:
        return 0.0, 1.0
    sample = finite[:: max(1, finite.size // _MAX_SAMPLE)].astype(np.float64)
    bottom, top = (float(each) for each in np.percentile(sample, (low, high)))
    if top <= bottom:
        bottom, top = float(sample.min()), float(sample.max())
    return (bottom, top) if top > bottom else (bottom - 0.5, bottom + 0.5)


def scaled(values: Array, bounds: tuple[float, float]) -> Array:
    """Return values as fractions of a range, from 0 to 1; what is not finite is 0."""
    low, high = bounds
    with np.errstate(all="ignore"):
        fraction = (values.astype(np.float64) - low) / (high - low)
    return np.clip(np.nan_to_num(fraction, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0)


def grey(fractions: Array) -> Array:
    """Return fractions as shades of grey, in RGB."""
    return np.repeat((fractions * 255).astype(np.uint8)[..., None], 3, axis=-1)


def coloured(fractions: Array) -> Array:
    """Return fractions as colours, in RGB."""
    place = np.linspace(0.0, 1.0, len(_VIRIDIS))
    steps = np.linspace(0.0, 1.0, 256)
    table = np.stack([np.interp(steps, place, _VIRIDIS[:, each]) for each in range(3)], axis=-1)
    return table.astype(np.uint8)[(fractions * 255).astype(np.uint8)]


def with_alpha(rgb: Array, shown: Array) -> Array:
    """Return colours that are clear where nothing is to be shown."""
    return np.concatenate([rgb, np.where(shown, 255, 0).astype(np.uint8)[..., None]], axis=-1)
