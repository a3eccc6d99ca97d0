"""What pictures have in common: paper, ink, letters, numbers and the bar of colours."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from batuta.quicklook.stretch import coloured, grey

Color = tuple[int, int, int]

PAPER: Final[Color] = (247, 248, 250)
"""A ground of its own: letters are read on a light page as on a dark one."""
INK: Final[Color] = (38, 43, 51)
QUIET: Final[Color] = (112, 119, 130)
GRID: Final[Color] = (221, 224, 229)
LINE: Final[Color] = (31, 98, 176)

FONT_PX: Final = 21
"""Still to be read where a picture of 720 pixels is shown at 400."""
BAR_PX: Final = 54
MAX_LABEL: Final = 46
_SMALL_PX: Final = 400


def font(size_px: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Return the letters that come with the library."""
    return ImageFont.load_default(size_px)


def label(text: str, max_length: int = MAX_LABEL) -> str:
    """Return a text of a file as it may be drawn: one line, not too long."""
    plain = "".join(each if each.isprintable() else " " for each in text)
    plain = " ".join(plain.split())
    return plain if len(plain) <= max_length else plain[: max_length - 1] + "…"


def named(name: str, unit: str | None) -> str:
    """Return the label of a quantity, with its unit where that is known."""
    return f"{label(name)} [{label(unit, 20)}]" if unit else label(name)


def number(value: float, step: float = 0.0) -> str:
    """Return a number with the digits that `step` needs, or five."""
    if value == 0 or abs(value) < step / 1000:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}"
    decimals = max(0, -int(np.floor(np.log10(step)))) if step > 0 else 0
    return f"{value:.{min(decimals, 8)}f}" if step > 0 else f"{value:.5g}"


def ticks(low: float, high: float, count: int) -> list[float]:
    """Return about `count` round numbers between two."""
    step = tick_step(low, high, count)
    first = np.ceil(low / step)
    return [float(each * step) for each in np.arange(first, np.floor(high / step) + 1)]


def tick_step(low: float, high: float, count: int) -> float:
    """Return a round step by which `count` steps or fewer cover a range."""
    rough = (high - low) / max(count, 1)
    power = 10.0 ** np.floor(np.log10(rough))
    return float(next(each * power for each in (1, 2, 5, 10) if each * power >= rough * 0.999))


def fitted(width: int, height: int, size_px: int) -> tuple[int, int]:
    """Return the size of a picture whose longer side has at most `size_px`; it is not enlarged."""
    scale = min(1.0, size_px / max(width, height, 1))
    return max(1, round(width * scale)), max(1, round(height * scale))


def enlarged(picture: Image.Image) -> Image.Image:
    """Return a picture of few pixels with each of them larger."""
    times = max(1, _SMALL_PX // max(picture.size))
    size = (picture.width * times, picture.height * times)
    return picture if times == 1 else picture.resize(size, Image.Resampling.NEAREST)


def with_bar(
    picture: Image.Image, bounds: tuple[float, float], title: str, *, in_colour: bool = True
) -> Image.Image:
    """Return a picture above a bar that tells its colours, with `title`."""
    width = max(picture.width, 420)
    whole = Image.new("RGBA", (width, picture.height + BAR_PX + 6), (0, 0, 0, 0))
    whole.paste(picture, ((width - picture.width) // 2, 0))
    top = picture.height + 6
    draw = ImageDraw.Draw(whole)
    draw.rectangle((0, top, width - 1, top + BAR_PX - 1), fill=PAPER)
    fractions = np.linspace(0.0, 1.0, width - 24)[None, :].repeat(12, axis=0)
    colours = coloured(fractions) if in_colour else grey(fractions)
    whole.paste(Image.fromarray(colours), (12, top + 8))
    letters = font(FONT_PX)
    low, high = (number(each) for each in bounds)
    baseline = top + BAR_PX - 10
    draw.text((12, baseline), low, INK, letters, anchor="ls")
    draw.text((width - 12, baseline), high, INK, letters, anchor="rs")
    left = 24 + int(draw.textlength(low, letters))
    room = width - left - 24 - int(draw.textlength(high, letters))
    draw.text((left + room // 2, baseline), cut(draw, title, room), QUIET, letters, anchor="ms")
    return whole


def cut(draw: ImageDraw.ImageDraw, text: str, width_px: float, size_px: int = FONT_PX) -> str:
    """Return as much of a text as has room."""
    letters = font(size_px)
    if draw.textlength(text, letters) <= width_px:
        return text
    while text and draw.textlength(text + "…", letters) > width_px:
        text = text[:-1]
    return text + "…" if text else ""


def as_image(pixels: npt.NDArray[Any]) -> Image.Image:
    """Return RGBA pixels as a picture."""
    return Image.fromarray(np.ascontiguousarray(pixels))
