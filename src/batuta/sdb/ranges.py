"""The HTTP ``Range`` header (RFC 9110), for a single range of bytes."""

import re
from typing import Final

_ONE_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class UnsatisfiableRangeError(ValueError):
    """A range that lies beyond the end."""


def parse_range(header: str | None, size: int) -> range | None:
    """Return the bytes ``[start, stop)`` that `header` asks of `size`; None: all of them.

    A malformed header, or one of several ranges, is ignored, as RFC 9110 allows.

    Raises
    ------
    UnsatisfiableRangeError
        If no byte of it exists.
    """
    match = _ONE_RANGE.fullmatch((header or "").replace(" ", ""))
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(size - int(last), 0), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= stop:
        raise UnsatisfiableRangeError(f"bytes {start}- of {size}")
    return range(start, stop)
