"""What a function is given beyond the edges of a raster."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from batuta.datasets import Overlaps

NOTHING: Final = "nothing"
NODATA: Final = "nodata"
_PADDED: Final = {"reflect": "reflect", "symmetric": "symmetric", "nearest": "edge"}
"""By their names here, the modes of `numpy.pad`."""

EDGES: Final = (NOTHING, NODATA, *_PADDED)
"""``nothing``: the arrays end at the edge; ``nodata``: pixels without a value; ``reflect``:
mirrored at the last pixel, which is not repeated; ``symmetric``: mirrored, and repeated;
``nearest``: the last pixel is repeated."""


def missing_overlaps(wanted_px: int, there: Overlaps) -> Overlaps:
    """Return by how much less than `wanted_px` pixels each side has."""
    return Overlaps(
        wanted_px - there.up,
        wanted_px - there.down,
        wanted_px - there.left,
        wanted_px - there.right,
    )


def pad(pixels: npt.NDArray[Any], beyond: Overlaps, edge: str, fill: Any) -> npt.NDArray[Any]:
    """Return pixels with what lies beyond the edges of the raster.

    Parameters
    ----------
    pixels : array of shape (..., rows, columns)
        May be a masked array.
    beyond : Overlaps
        By how many pixels each side grows.
    edge : str
        One of `EDGES`, but ``nothing``.
    fill : number or None
        The value of pixels that have none, for the edge ``nodata``; None masks them.
    """
    if beyond == Overlaps():
        return pixels
    others = ((0, 0),) * (pixels.ndim - 2)
    width = (*others, (beyond.up, beyond.down), (beyond.left, beyond.right))
    how = (
        {"mode": _PADDED[edge]}
        if edge != NODATA
        else {"constant_values": 0 if fill is None else fill}
    )
    padded: npt.NDArray[Any] = np.pad(np.ma.getdata(pixels), width, **how)
    if not isinstance(pixels, np.ma.MaskedArray):
        return padded
    masked = {"constant_values": True} if edge == NODATA else how
    mask = np.pad(np.ma.getmaskarray(pixels), width, **masked)
    return np.ma.MaskedArray(padded, mask=mask)
