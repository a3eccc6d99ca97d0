"""The tasks that are measured. They do not import Batuta, so that every side runs the same ones."""

import time
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

Array = npt.NDArray[np.float32]

TAG = "height"


def as_tile(values: Array, attributes: dict[str, Any] | None = None) -> xr.Dataset:
    """Return a tile of one variable."""
    return xr.Dataset({TAG: (("row", "col"), values)}, attrs=attributes)


# Two-step chains of small tiles


def noise(seed: int, side_px: int = 256) -> xr.Dataset:
    """First step: a tile of noise."""
    return as_tile(np.random.default_rng(seed).random((side_px, side_px), dtype=np.float32))


def smooth(tile: xr.Dataset, attributes: dict[str, Any]) -> xr.Dataset:
    """Second step: a mean over neighbours, with the attributes that saving needs."""
    values = tile[TAG].to_numpy()
    mean = (values + np.roll(values, 1, axis=0) + np.roll(values, 1, axis=1)) / 3
    return as_tile(mean, attributes)


# Three-step chains of large tiles, which hold three tiles at a time at most

LIGHT_AZIMUTH: Final = np.float32(np.radians(315))
LIGHT_ZENITH: Final = np.float32(np.radians(45))


def terrain(seed: int, side_px: int) -> xr.Dataset:
    """First step: heights in m."""
    heights = np.random.default_rng(seed).random((side_px, side_px), dtype=np.float32)
    along = np.linspace(0, 9, side_px, dtype=np.float32)
    heights += np.multiply.outer(300 * np.sin(along), np.cos(along))
    return as_tile(heights)


def gradient(tile: xr.Dataset) -> xr.Dataset:
    """Second step: the gradient along rows and columns, by central differences."""
    heights = tile[TAG].to_numpy()
    down, right = np.zeros_like(heights), np.zeros_like(heights)
    np.subtract(heights[2:], heights[:-2], out=down[1:-1])
    np.subtract(heights[:, 2:], heights[:, :-2], out=right[:, 1:-1])
    return xr.Dataset({"down": (("row", "col"), down), "right": (("row", "col"), right)})


def shade(tile: xr.Dataset, attributes: dict[str, Any]) -> xr.Dataset:
    """Third step: how much light the ground gets."""
    down, right = tile["down"].to_numpy(), tile["right"].to_numpy()
    slope = np.hypot(down, right)
    np.arctan(slope, out=slope)
    lit = np.arctan2(down, right, out=down)
    np.subtract(LIGHT_AZIMUTH, lit, out=lit)
    np.cos(lit, out=lit)
    lit *= np.sin(slope, out=right)
    lit *= np.sin(LIGHT_ZENITH)
    lit += np.multiply(np.cos(slope, out=slope), np.cos(LIGHT_ZENITH), out=slope)
    return as_tile(np.clip(lit, 0, 1, out=lit), attributes)


# Tasks that do one thing


def spin(seconds: float) -> None:
    """Compute in Python for `seconds` of processor time, without releasing the interpreter lock."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def nothing(value: Any = None) -> Any:
    """Do nothing."""
    return value
