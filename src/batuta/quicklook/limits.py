"""What a drawing may use, and how it says that it cannot be made."""

from typing import Final

from batuta.errors import BatutaError

DRAWER: Final = "1"
"""The version of all that draws. A file that could not be drawn is tried again by another one."""

MAX_GIVEN_BYTES: Final = 2 * 2**20
"""The largest picture that a pipeline may give."""
MAX_GIVEN_PX: Final = 4096
"""Its largest width and height."""

SIZE_PX: Final = 768
"""The largest width or height of a picture of a raster, of points or of an image."""
MAX_ROWS: Final = 1_000_000
"""Rows of a table that are read; points of a cloud."""
MAX_COLUMNS: Final = 5_000
MAX_TEXT_BYTES: Final = 32 * 2**20
"""What is read of a table in text."""
MAX_PIXELS: Final = 400_000_000
"""Pixels that are read, or decoded, at full resolution."""
MAX_INFLATED_BYTES: Final = 256 * 2**20
"""What a compressed file may become."""

MAX_MEMORY_BYTES: Final = 2 * 2**30
MAX_TIME_S: Final = 30
MAX_PICTURE_BYTES: Final = 8 * 2**20
"""The largest picture that a drawing may return."""
MAX_REASON_LENGTH: Final = 300


class CannotDrawError(BatutaError):
    """A file has no quicklook; the message says why, in one line."""


class CannotDrawNowError(CannotDrawError):
    """A file could not be drawn, perhaps for what else its machine did."""
