"""Charts: quantities along one axis, a panel for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from batuta.quicklook.canvas import (
    FONT_PX,
    GRID,
    INK,
    LINE,
    PAPER,
    QUIET,
    cut,
    font,
    named,
    number,
    tick_step,
    ticks,
)
from batuta.quicklook.limits import CannotDrawError

Array = npt.NDArray[Any]

WIDTH_PX: Final = 720
MAX_PANELS: Final = 3
_SHARP: Final = 2
"""Drawn so many times larger, then made smaller: lines are smooth."""
_PANEL_PX: Final = {1: 300, 2: 190, 3: 150}
_HEAD_PX: Final = 34
_FOOT_PX: Final = 64
_RIGHT_PX: Final = 20
_LONG_GAP: Final = 20
"""A line is not drawn over so many times the usual step."""


@dataclass(frozen=True)
class Quantity:
    """Numbers with a name.

    Attributes
    ----------
    name : str
        What they are.
    values : numpy.ndarray
        One for each row.
    unit : str or None
        Theirs, where it is known.
    """

    name: str
    values: Array
    unit: str | None = None


@dataclass(frozen=True)
class _Axis:
    """A range of values, drawn from one pixel to another."""

    low: float
    high: float
    first_px: float
    last_px: float

    def px(self, values: Array) -> Array:
        share = (values - self.low) / (self.high - self.low)
        place: Array = self.first_px + share * (self.last_px - self.first_px)
        return place


def draw_chart(along: Quantity, shown: Sequence[Quantity]) -> Image.Image:
    """Return a chart of `shown`, at most three, along `along`.

    Raises
    ------
    CannotDrawError
        If there is not one finite number to show.
    """
    panels = [each for each in shown if np.isfinite(each.values.astype(np.float64)).any()]
    panels = panels[:MAX_PANELS]
    x = along.values.astype(np.float64)
    if not panels or not np.isfinite(x).any():
        raise CannotDrawError("it has no number to show")
    height = _HEAD_PX * len(panels) + _PANEL_PX[len(panels)] * len(panels) + _FOOT_PX
    picture = Image.new("RGB", (WIDTH_PX * _SHARP, height * _SHARP), PAPER)
    _Chart(ImageDraw.Draw(picture), along, x, panels).draw()
    return picture.resize((WIDTH_PX, height), Image.Resampling.LANCZOS)


class _Chart:
    def __init__(
        self, draw: ImageDraw.ImageDraw, along: Quantity, x: Array, panels: Sequence[Quantity]
    ) -> None:
        self._draw = draw
        self._along = along
        self._panels = panels
        self._letters = font(FONT_PX * _SHARP)
        self._height = _PANEL_PX[len(panels)] * _SHARP
        low, high = _limits(x)
        # Far from zero (seconds of a mission), what differs is shown, and the rest is told.
        self._offset = low if abs(low) > 100 * (high - low) else 0.0
        self._x = x - self._offset
        self._ranges = [_limits(each.values, 0.06) for each in panels]
        marks = [number(*_mark(each, low, high)) for low, high in self._ranges for each in (0, 1)]
        left = max(self._draw.textlength(each, self._letters) for each in marks) + 20 * _SHARP
        right = (WIDTH_PX - _RIGHT_PX) * _SHARP
        self._across = _Axis(low - self._offset, high - self._offset, left, right)

    def draw(self) -> None:
        top = 0.0
        for panel, bounds in zip(self._panels, self._ranges, strict=True):
            top += _HEAD_PX * _SHARP
            self._draw_panel(panel, bounds, top)
            top += self._height
        self._draw_foot(top)

    def _draw_panel(self, panel: Quantity, bounds: tuple[float, float], top: float) -> None:
        up = _Axis(*bounds, top + self._height, top)
        left, right = self._across.first_px, self._across.last_px
        count = max(2, int(self._height / (45 * _SHARP)))
        step = tick_step(*bounds, count)
        for value in ticks(*bounds, count):
            y = float(up.px(np.float64(value)))  # type: ignore[arg-type]  # a number is as good
            self._draw.line((left, y, right, y), GRID, _SHARP)
            place = (left - 8 * _SHARP, y)
            self._draw.text(place, number(value, step), QUIET, self._letters, anchor="rm")
        title = cut(self._draw, named(panel.name, panel.unit), right - left, FONT_PX * _SHARP)
        self._draw.text((left, top - 9 * _SHARP), title, INK, self._letters, anchor="ls")
        self._draw_values(self._across.px(self._x), up.px(panel.values.astype(np.float64)))

    def _draw_values(self, x: Array, y: Array) -> None:
        finite = np.isfinite(x) & np.isfinite(y)
        x, y = x[finite], y[finite]
        steps = np.diff(x)
        if len(x) > 1 and (steps >= 0).all():
            if len(x) > 2 * (self._across.last_px - self._across.first_px):
                self._draw_extent(x, y)
                return
            usual = max(float(np.median(steps)), 1e-9)
            gaps = np.flatnonzero(steps > max(_LONG_GAP * usual, 8 * _SHARP)) + 1
            for part_x, part_y in zip(np.split(x, gaps), np.split(y, gaps), strict=True):
                self._draw.line([*zip(part_x, part_y, strict=True)], LINE, _SHARP + 1, "curve")
        if len(x) <= 400 or not (steps >= 0).all():
            self._draw_points(x, y, 2.2 * _SHARP if len(x) <= 400 else 1.0 * _SHARP)

    def _draw_points(self, x: Array, y: Array, radius: float) -> None:
        # Of many that fall on one pixel, one is drawn.
        places = np.unique(np.stack([x.round(), y.round()], axis=-1), axis=0)
        for px, py in places.tolist():
            self._draw.ellipse((px - radius, py - radius, px + radius, py + radius), LINE)

    def _draw_extent(self, x: Array, y: Array) -> None:
        """Draw, for each column of pixels, from the least to the greatest."""
        columns = x.astype(np.int64)
        starts = np.flatnonzero(np.diff(columns, prepend=columns[0] - 1))
        lows, highs = np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)
        for px, low, high in zip(columns[starts].tolist(), lows, highs, strict=True):
            self._draw.line((px, float(low), px, float(high) + _SHARP), LINE, 1)

    def _draw_foot(self, top: float) -> None:
        axis = self._across
        step = tick_step(axis.low, axis.high, 6)
        marks = ticks(axis.low, axis.high, 6)
        if len(marks) > 4 and max(len(number(each, step)) for each in marks) > 6:
            step = tick_step(axis.low, axis.high, 3)
            marks = ticks(axis.low, axis.high, 3)
        for value in marks:
            x = float(axis.px(np.float64(value)))  # type: ignore[arg-type]  # as above
            self._draw.line((x, top, x, top + 5 * _SHARP), QUIET, _SHARP)
            place = (x, top + 8 * _SHARP)
            anchor = "ra" if x > axis.last_px - 30 * _SHARP else "ma"
            self._draw.text(place, number(value, step), QUIET, self._letters, anchor=anchor)
        self._draw.line((axis.first_px, top, axis.last_px, top), QUIET, _SHARP)
        since = f" since {self._offset:.9g}" if self._offset else ""
        name = named(f"{self._along.name}{since}", self._along.unit)
        middle = (axis.first_px + axis.last_px) / 2
        room = axis.last_px - axis.first_px
        title = cut(self._draw, name, room, FONT_PX * _SHARP)
        foot = (middle, top + (_FOOT_PX - 9) * _SHARP)
        self._draw.text(foot, title, INK, self._letters, anchor="ms")


def _limits(values: Array, margin: float = 0.0) -> tuple[float, float]:
    finite = values[np.isfinite(values.astype(np.float64))].astype(np.float64)
    low, high = float(finite.min()), float(finite.max())
    if not np.isfinite(high - low):
        raise CannotDrawError("its numbers are too large")
    if high <= low or high - low < abs(low) * 1e-12:
        spread = abs(low) * 0.05 or 0.5
        return low - spread, high + spread
    room = (high - low) * margin
    # From zero where that is near.
    bottom = 0.0 if margin and 0 < low < 0.15 * high else low - room
    return bottom, high + room


def _mark(which: int, low: float, high: float) -> tuple[float, float]:
    step = tick_step(low, high, 4)
    return ((low, high)[which], step)
