"""Slope and hillshade of heights, by Horn's formulas.

The gradient is that of Horn, "Hill shading and the reflectance map", Proceedings of the IEEE 69
(1981), equations for the weighted differences over 3 x 3 pixels; the shade is the cosine of the
angle between the ground's normal and the light (the same paper, a Lambertian surface).
Arrays are (rows, columns), rows from north to south; NaN is a pixel without height, and so are
then its eight neighbours in what is derived.
"""

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Heights: TypeAlias = npt.NDArray[np.float64]

MARGIN_PX: Final = 1
"""How far a result looks beyond its own pixel."""


def gradient(heights: Heights, height_m: Heights, width_m: Heights) -> tuple[Heights, Heights]:
    """Return the slope towards north and towards east, in m per m.

    Parameters
    ----------
    heights : array of shape (rows, columns)
        In m.
    height_m, width_m : array of shape (rows,)
        Size of the pixels of each row, in m.

    Returns
    -------
    tuple of arrays of shape (rows, columns)
        Rise towards north, rise towards east. Beyond the edge, the ground goes on level.
    """
    around = np.pad(heights, MARGIN_PX, mode="edge")
    # Each sum weighs the pixel in line twice, those beside it once.
    by_row = around[:, :-2] + 2 * around[:, 1:-1] + around[:, 2:]
    by_col = around[:-2] + 2 * around[1:-1] + around[2:]
    north = (by_row[:-2] - by_row[2:]) / (8 * height_m[:, np.newaxis])
    east = (by_col[:, 2:] - by_col[:, :-2]) / (8 * width_m[:, np.newaxis])
    return north, east


def slope_deg(north: Heights, east: Heights) -> Heights:
    """Return the angle between the ground and the level, in degrees, from its gradient."""
    steepness: Heights = np.degrees(np.arctan(np.hypot(north, east)))
    return steepness


def hillshade(
    north: Heights, east: Heights, azimuth_deg: float = 315.0, altitude_deg: float = 45.0
) -> Heights:
    """Return how much light the ground gets, from 0 to 1.

    Parameters
    ----------
    north, east : array
        As given by `gradient`.
    azimuth_deg, altitude_deg : float
        Where the light comes from: clockwise from north, and above the horizon.
    """
    azimuth, altitude = np.radians(azimuth_deg), np.radians(altitude_deg)
    towards_light = np.sin(azimuth) * east + np.cos(azimuth) * north
    normal = np.sqrt(1 + north * north + east * east)
    lit = (np.sin(altitude) - np.cos(altitude) * towards_light) / normal
    shade: Heights = np.clip(lit, 0, 1)
    return shade
