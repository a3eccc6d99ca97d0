"""The quicklook of JSON: its keys and values, as many as have room."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw

from batuta.quicklook.canvas import FONT_PX, INK, PAPER, QUIET, cut, font, label
from batuta.quicklook.chart import WIDTH_PX

_MAX_BYTES: Final = 4 * 2**20
_LINES: Final = 16
_LINE_PX: Final = 30
_MARGIN_PX: Final = 16
_INDENT_PX: Final = 22
_MAX_DEPTH: Final = 4
_MAX_ITEMS: Final = 6

Line = tuple[int, str, str]
"""How deep it is, its key, and its value."""


def draw(path: Path) -> Image.Image:
    """Return the first lines of a document as a picture."""
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    lines = [*_lines_of(content)]
    shown = lines[:_LINES]
    if len(lines) > _LINES:
        shown[-1] = (0, f"… and {len(lines) - _LINES + 1} more lines", "")
    height = _LINE_PX * len(shown) + 2 * _MARGIN_PX
    picture = Image.new("RGB", (WIDTH_PX, height), PAPER)
    draw = ImageDraw.Draw(picture)
    letters = font(FONT_PX)
    for number, (depth, key, value) in enumerate(shown):
        left: float = _MARGIN_PX + depth * _INDENT_PX
        baseline = _MARGIN_PX + (number + 0.72) * _LINE_PX
        draw.text((left, baseline), key, QUIET, letters, anchor="ls")
        left += draw.textlength(key + " ", letters) if key else 0
        text = cut(draw, value, WIDTH_PX - _MARGIN_PX - left)
        draw.text((left, baseline), text, INK, letters, anchor="ls")
    return picture


def _lines_of(content: bytes) -> Iterator[Line]:
    if len(content) > _MAX_BYTES:
        # Too large to be read whole: as it is written.
        for line in content[:4096].decode("utf-8", "replace").splitlines():
            yield 0, "", label(line, 200)
        return
    yield from _lines("", json.loads(content), 0)


def _lines(key: str, value: Any, depth: int) -> Iterator[Line]:
    title = f"{label(key)}:" if key else ""
    if isinstance(value, dict | list) and not value:
        yield depth, title, "{}" if isinstance(value, dict) else "[]"
    elif depth >= _MAX_DEPTH or not isinstance(value, dict | list):
        yield depth, title, label(json.dumps(value, ensure_ascii=False), 200)
    elif isinstance(value, dict):
        if title:
            yield depth, title, ""
        for name, each in value.items():
            yield from _lines(str(name), each, depth + bool(title))
    elif all(not isinstance(each, dict | list) for each in value):
        texts = [json.dumps(each, ensure_ascii=False) for each in value[: 4 * _MAX_ITEMS]]
        more = f", … ({len(value)} values)" if len(value) > 4 * _MAX_ITEMS else ""
        yield depth, title, label(", ".join(texts) + more, 200)
    else:
        yield depth, title, f"{len(value)} items"
        for place, each in enumerate(value[:_MAX_ITEMS]):
            yield from _lines(f"{place + 1}", each, depth + 1)
