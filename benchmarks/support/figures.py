"""Figures, their references and targets, and the table that they are printed in."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

HEADINGS: Final = ("what", "Batuta", "against", "ratio", "target", "")


@dataclass(frozen=True)
class Target:
    """What a ratio must be.

    Parameters
    ----------
    side : {"at least", "at most"}
        Which side of `value` is good.
    value : float
        In the unit of the ratio.
    """

    side: Literal["at least", "at most"]
    value: float

    def met(self, ratio: float) -> bool:
        """Whether `ratio` is on the good side."""
        return ratio >= self.value if self.side == "at least" else ratio <= self.value


MEASURING_LIMIT: Final = Target("at most", 50)
"""Processor time, over all processes, that measuring a task may take, in us."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table.

    Parameters
    ----------
    what : str
        What is measured.
    measured, against : str
        Batuta's value and that of the reference, with their units.
    ratio : float, optional
        Of the two, or what the target is about; None where it was not measured.
    unit : str
        Of the ratio.
    target : Target, optional
        None for a figure that explains another one.
    """

    what: str
    measured: str
    against: str = ""
    ratio: float | None = None
    unit: str = "x"
    target: Target | None = None

    def cells(self) -> tuple[str, ...]:
        """Return the texts of the line, one for each heading."""
        ratio = "" if self.ratio is None else f"{_short(self.ratio)} {self.unit}"
        target = "" if self.target is None else f"{self.target.side} {_short(self.target.value)}"
        return self.what, self.measured, self.against, ratio, target, self._verdict()

    def _verdict(self) -> str:
        if self.target is None:
            return ""
        if self.ratio is None:
            return "?"
        return "met" if self.target.met(self.ratio) else "MISSED"


def not_measured(what: str, reason: str, target: Target | None = None) -> Figure:
    """Return the line of a figure that cannot be measured on this machine."""
    return Figure(what=what, measured="not measured", against=reason, target=target)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(figures: Sequence[Figure]) -> str:
    """Lay the figures out in columns, as Markdown."""
    return _aligned([HEADINGS, *(figure.cells() for figure in figures)])


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    rule = ["-" * width for width in widths]
    return "\n".join(_line(row, widths) for row in (rows[0], rule, *rows[1:]))


def _line(row: Iterable[str], widths: Sequence[int]) -> str:
    return (
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
    )
