"""How much of files GDAL keeps in memory: what is soon read or written again, and not more.

GDAL keeps the blocks that it has read, and those that are to be written, up to a twentieth of the
memory of the machine in each process. Each worker would hold the inputs of all its tiles.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio
from rasterio.session import DummySession

from batuta.datasets.grid import Window

SETTING: Final = "GDAL_CACHEMAX"
"""The setting of GDAL, and the environment variable by which a user sets it."""
LEAST_BYTES: Final = 4 << 20


@contextmanager
def limited_block_cache(needed_bytes: int) -> Iterator[None]:
    """Let GDAL keep no more than these blocks, or `LEAST_BYTES` of them.

    Where a user has set `SETTING`, that holds.

    Parameters
    ----------
    needed_bytes : int
        What is soon used again.
    """
    if SETTING in os.environ:
        yield
        return
    # Without a session: rasterio would look for credentials.
    with rasterio.Env(session=DummySession(), **{SETTING: max(LEAST_BYTES, needed_bytes)}):
        yield


def block_bytes(dataset: Any, window: Window) -> int | None:
    """Return what the blocks of a file take that a window touches and that are worth keeping.

    Those of all its bands; none of blocks on this machine that are not compressed, which the system
    has in memory too.

    Parameters
    ----------
    dataset : rasterio dataset
        The file.
    window : Window
        A part of it.

    Returns
    -------
    int or None
        None where GDAL keeps blocks of other files for it, of which nothing is known.
    """
    if dataset.driver != "GTiff":
        return None
    height, width = dataset.block_shapes[0]
    is_strip = width >= dataset.width  # of which a tile may use a small part
    if dataset.compression is None and not is_strip and Path(dataset.name).is_file():
        return 0
    rows = -(-window.row_max // height) - window.row_min // height
    cols = -(-window.col_max // width) - window.col_min // width
    pixel = dataset.count * np.dtype(dataset.dtypes[0]).itemsize + 1  # and their mask
    found: int = rows * cols * height * width * pixel
    return found


class WriteCache:
    """Makes GDAL write out blocks now and then, rather than keep them until it has no room."""

    def __init__(self) -> None:
        self._unwritten_bytes = 0

    def record(self, written_bytes: int) -> None:
        """Record that pixels were written to a file."""
        self._unwritten_bytes += written_bytes
        if self._unwritten_bytes > LEAST_BYTES:
            self._unwritten_bytes = 0
            with limited_block_cache(0):
                pass  # what is beyond is written when the limit is set
