"""Which columns of a table are shown, and along which."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from batuta.quicklook.chart import MAX_PANELS, Quantity, draw_chart
from batuta.quicklook.limits import CannotDrawError

_ALONG: Final = (
    "time",
    "timestamp",
    "datetime",
    "date",
    "mjd",
    "jd",
    "bjd",
    "t",
    "frequency",
    "freq",
    "energy",
    "wavelength",
    "wave",
    "channel",
    "phase",
    "period",
    "distance",
    "x",
)
"""What tables are drawn along, where they have it."""
_NOT_SHOWN: Final = ("id", "index", "row", "quality", "flag", "flags")
_SHOWN_FIRST: Final = ("rate", "flux", "counts", "power", "value", "mag", "signal")
_UNIT_SUFFIXES: Final = "s|ms|us|h|d|m|km|cm|mm|px|hz|khz|ev|kev|mev|jy|k|deg|rad|pct|mb|bytes"
_NAME: Final = re.compile(
    rf"(?P<name>.+?)(?:\s*[\[(](?P<unit>[^\])]*)[\])]|_(?P<suffix>{_UNIT_SUFFIXES}))?",
    re.IGNORECASE,
)

NS_PER_S: Final = 1e9


def is_shown(values: npt.NDArray[Any]) -> bool:
    """Return whether a column has numbers, or times, one in each row."""
    return values.ndim == 1 and values.dtype.kind in "iufMb"


def draw_table(
    columns: Mapping[str, npt.NDArray[Any]], units: Mapping[str, str] | None = None
) -> Image.Image:
    """Return a chart of the first numeric columns of a table, along its time or its rows.

    Parameters
    ----------
    columns : mapping
        Arrays of one length, by name.
    units : mapping, optional
        By name. Of others, units are taken from names such as ``bin_s`` and ``rate [1/s]``.

    Raises
    ------
    CannotDrawError
        If it has no rows, or no column of numbers.
    """
    found = [
        _quantity(name, values, units or {}) for name, values in columns.items() if is_shown(values)
    ]
    found = [each for each in found if len(each.values)]
    if not found:
        raise CannotDrawError("it has no column of numbers, or no rows")
    along = _along(found)
    others = [each for each in found if each is not along]
    shown = _shown(others, along)
    if not shown:
        if along is None:
            raise CannotDrawError("it has no column of numbers, or no rows")
        shown, along = [along], None
    if along is None:
        along = Quantity("row", np.arange(len(shown[0].values)))
    return draw_chart(along, shown)


def _quantity(name: str, values: npt.NDArray[Any], units: Mapping[str, str]) -> Quantity:
    if values.dtype.kind == "M":
        nanoseconds = values.astype("datetime64[ns]")
        missing = np.isnat(nanoseconds)
        seconds = nanoseconds.astype(np.int64) / NS_PER_S
        if missing.all():
            return Quantity(name, np.full(len(values), np.nan))
        start = seconds[~missing].min()
        since = f"{np.datetime64(int(start), 's')}".replace("T", " ")
        return Quantity(f"{name} since {since}", np.where(missing, np.nan, seconds - start), "s")
    if name in units:
        return Quantity(name, values, units[name])
    split = _NAME.fullmatch(name)
    if split is None:
        return Quantity(name, values)
    return Quantity(split["name"], values, split["unit"] or split["suffix"])


def _along(found: Sequence[Quantity]) -> Quantity | None:
    for wanted in _ALONG:
        for each in found:
            name = each.name.lower()
            is_it = name == wanted or name.startswith((f"{wanted} since", f"{wanted}_"))
            if is_it and np.isfinite(each.values.astype(np.float64)).any():
                return each
    return None


def _shown(others: Sequence[Quantity], along: Quantity | None) -> list[Quantity]:
    # Such as energy_high, of bins from energy_low.
    stem = re.split(r"[\W_]", along.name.lower())[0] if along is not None else None

    def place(each: Quantity) -> int:
        name = each.name.lower()
        if stem and name.startswith((f"{stem}_", f"{stem} ")):
            return 2
        if name in _NOT_SHOWN or name.startswith(("error", "err_", "sigma")) or "_err" in name:
            return 2
        return 0 if name.startswith(_SHOWN_FIRST) else 1

    best = min(map(place, others), default=0)
    return [each for each in others if place(each) == best][:MAX_PANELS]
