"""Quicklooks: one picture per product."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import Final

from matplotlib.axes import Axes

from examples.demo import plots, style


@dataclass(frozen=True)
class Look:
    """How a product is drawn: its title, by what, and the size of the picture in inches."""

    title: str
    draw: Callable[[Axes, Path], str]
    width_in: float = 8.0
    height_in: float = 4.2


LOOKS: Final = {
    "LIGHT_CURVE": Look("Light curve", plots.light_curve),
    "POWER_SPECTRUM": Look("Power spectrum", plots.power_spectrum, height_in=4.8),
    "DYN_POWER_SPECTRUM": Look("Dynamic power spectrum", plots.dynamic_spectrum, height_in=4.8),
    "QPO_SEARCH": Look("Search for oscillations", plots.qpo_search),
    "BURSTS": Look("Bursts", plots.blocks),
    "ENERGY_SPECTRUM": Look("Energy spectrum", plots.energy_spectrum, height_in=4.8),
    "HARDNESS": Look("Hardness", plots.hardness),
    "EXCESS_VARIANCE": Look("Variability", plots.excess_variance),
    "DISPARITY": Look("Disparity", plots.disparity, 9.0, 5.6),
    "DISPARITY_ERROR": Look("Error of the disparity", plots.disparity_error, 7.0, 4.6),
    "POINTS": Look("Points", plots.points, 9.0, 6.0),
    "HEIGHTS": Look("Heights", plots.heights, 9.0, 5.8),
}
"""By product. Reports are pictures already."""

REPORTS: Final = ("TIMING_REPORT", "STEREO_REPORT")


def draw(product: str, file: Path, png: Path, obs_id: str | None = None) -> None:
    """Draw a product.

    Parameters
    ----------
    product : str
        Which product it is, one of `LOOKS` or `REPORTS`.
    file : Path
        As archived.
    png : Path
        The picture to write.
    obs_id : str, optional
        Shown in the title.

    Raises
    ------
    KeyError
        If there is no drawing of this product.
    """
    if product in REPORTS:
        copyfile(file, png)
        return
    if product not in LOOKS:
        known = ", ".join([*LOOKS, *REPORTS])
        raise KeyError(f"no quicklook of {product!r} (there is one of {known})")
    look = LOOKS[product]
    with style.styled():
        figure = style.new_figure(look.width_in, look.height_in)
        axes = figure.add_subplot()
        source = look.draw(axes, file)
        style.title(axes, look.title, " · ".join(part for part in (source, obs_id) if part))
        style.save(figure, png)
