"""A colour for each provider, the same in every picture of a graph."""

from colorsys import hls_to_rgb
from typing import Final

from batuta.graph.graph import Graph

# Distinguishable for colour-blind readers, and readable on white as on black.
_PALETTE: Final = (
    "#4477aa", "#cc6677", "#228833", "#aa7711", "#8855aa", "#22889a", "#bb4499", "#777777",
)  # fmt: skip
_GOLDEN_ANGLE: Final = 0.381966


def provider_colours(graph: Graph) -> dict[str, str]:
    """Return a colour, ``#rrggbb``, per provider, in the order of first mention."""
    return {name: _colour(rank) for rank, name in enumerate(graph.providers)}


def _colour(rank: int) -> str:
    if rank < len(_PALETTE):
        return _PALETTE[rank]
    channels = hls_to_rgb(rank * _GOLDEN_ANGLE % 1, 0.38, 0.5)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)
