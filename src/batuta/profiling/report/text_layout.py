"""Tables of text."""

from collections.abc import Sequence
from typing import Final

WIDTH: Final = 100
"""Columns of the terminal that text is made for."""

_MIN_WIDTH: Final = 8


def printable(text: str) -> str:
    """Return text that a terminal shows as it is: names come from users."""
    return "".join(char if char.isprintable() else "?" for char in text)


def shorten(text: str, width: int) -> str:
    """Cut the middle out of a text that is too long: both ends tell names apart."""
    if len(text) <= width:
        return text
    left = (width - 1) // 2
    return f"{text[:left]}…{text[len(text) - (width - 1 - left) :]}"


def format_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1
) -> list[str]:
    """Lay a table out, its first columns (`left`) to the left and the others to the right.

    Words are shortened where the table is too wide, the longest first.
    """
    cells = [[printable(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    _narrow(widths, left)
    return [
        "  "
        + "  ".join(
            shorten(cell, width).ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _narrow(widths: list[int], left: int) -> None:
    """Take from the widest column of words what is too much."""
    while sum(widths) + 2 * len(widths) > WIDTH:
        widest = max(range(left), key=widths.__getitem__)
        if widths[widest] <= _MIN_WIDTH:
            return
        widths[widest] -= 1


def text_bar(share: float, width: int = 30) -> str:
    """Draw a share of 1 as a bar of text; from half a percent on it is seen."""
    return "█" * max(round(share * width), 1 if share >= 0.005 else 0)
