"""Lay out text for a terminal: tables and bars."""

from collections.abc import Sequence
from typing import Final

WIDTH: Final = 100
"""Of the terminal, in characters."""

_MIN_WIDTH: Final = 8


def printable(text: str) -> str:
    """Replace control characters: names come from users, and could drive the terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def shorten(text: str, width: int) -> str:
    """Cut the middle out of a long text, as names may differ at either end."""
    if len(text) <= width:
        return text
    left = (width - 1) // 2
    return f"{text[:left]}…{text[len(text) - (width - 1 - left) :]}"


def format_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1
) -> list[str]:
    """Format a table: the first `left` columns are aligned to the left, the others to the right.

    Where the table is too wide, left columns are shortened, the widest first.
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
    """Narrow the widest left columns until the table fits."""
    while sum(widths) + 2 * len(widths) > WIDTH:
        widest = max(range(left), key=widths.__getitem__)
        if widths[widest] <= _MIN_WIDTH:
            return
        widths[widest] -= 1


def text_bar(share: float, width: int = 30) -> str:
    """Return a bar for a share of 1; visible from half a percent on."""
    return "█" * max(round(share * width), 1 if share >= 0.005 else 0)
