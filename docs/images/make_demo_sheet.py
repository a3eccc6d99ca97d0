# ruff: noqa: INP001  a script, of no package
"""Composes `demo.png`: six of the pictures that ``batuta demo`` draws, on one sheet.

After ``make demo``: ``.venv/bin/python docs/images/make_demo_sheet.py demo-out``.
"""

import sys
from pathlib import Path
from typing import Final

from PIL import Image

TARGET: Final = Path(__file__).with_name("demo.png")
ROWS: Final = (
    (
        "MIDDLEBURY-MOTORCYCLE-DISPARITY",
        "MIDDLEBURY-MOTORCYCLE-POINTS",
        "MIDDLEBURY-MOTORCYCLE-HEIGHTS",
    ),
    (
        "RXTE-M82-2009-12-18-LIGHT_CURVE",
        "RXTE-93087-01-02-11-DYN_POWER_SPECTRUM",
        "CHANDRA-10027-ENERGY_SPECTRUM",
    ),
)
CELL_PX: Final = (640, 430)
GAP_PX: Final = 16


def compose(folder: Path) -> Image.Image:
    """Put the pictures side by side, each whole and centred in its cell."""
    width, height = CELL_PX
    size = (
        len(ROWS[0]) * (width + GAP_PX) + GAP_PX,
        len(ROWS) * (height + GAP_PX) + GAP_PX,
    )
    sheet = Image.new("RGB", size, "white")
    for row, names in enumerate(ROWS):
        for col, name in enumerate(names):
            with Image.open(folder / f"{name}.png") as picture:
                cell = picture.convert("RGB")
            cell.thumbnail(CELL_PX, Image.Resampling.LANCZOS)
            left = GAP_PX + col * (width + GAP_PX) + (width - cell.width) // 2
            top = GAP_PX + row * (height + GAP_PX) + (height - cell.height) // 2
            sheet.paste(cell, (left, top))
    return sheet


if __name__ == "__main__":
    compose(Path(sys.argv[1])).quantize(256).save(TARGET, optimize=True)
