"""The graph as a picture that stands alone, in SVG."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final
from xml.sax.saxutils import escape

from batuta.graph.graph import Graph
from batuta.graph.model import Product
from batuta.graph.show.colours import provider_colours
from batuta.graph.show.layout import Edge, Layout, Place, lay_out

# All in pixels.
_ROW: Final = 38.0
_BOX_HEIGHT: Final = 26.0
_CHARACTER_WIDTH: Final = 7.3
_PADDING: Final = 22.0
_GAP: Final = 88.0
_MARGIN: Final = 24.0
_TITLE: Final = 56.0
_LEGEND_ROW: Final = 22.0
_MIN_WIDTH: Final = 560.0
_INPUT_COLOUR: Final = "#888888"

# Boxes are filled with their colour, text on them is white; all else follows the reader's theme.
_STYLE: Final = """
  svg { --ink: #24292f; --quiet: #6e7781; --paper: #ffffff; --soft: #eaeef2; }
  @media (prefers-color-scheme: dark) {
    svg { --ink: #e6edf3; --quiet: #9198a1; --paper: #0d1117; --soft: #212830; }
  }
  text { font: 12px ui-monospace, "DejaVu Sans Mono", Menlo, monospace; fill: var(--ink); }
  .paper { fill: var(--paper); }
  .title { font-size: 15px; font-weight: 600; }
  .quiet { fill: var(--quiet); }
  .box text { fill: #ffffff; text-anchor: middle; dominant-baseline: central; }
  .input rect { fill: var(--soft); stroke: #888888; }
  .input text { fill: var(--ink); }
  .edge { fill: none; stroke-width: 1.4; opacity: 0.75; }
  .optional { stroke-dasharray: 5 4; }
"""


def as_svg(graph: Graph, title: str = "Product graph") -> str:
    """Return a picture of the graph: levels from left to right, a colour per provider.

    Solid lines are mandatory inputs, dashed ones optional; a line has the colour of the product
    that it leads to. The tooltip of a product says what it is made from. Colours follow the
    reader's light or dark theme.

    Parameters
    ----------
    graph : Graph
    title : str
        Written at the top.
    """
    return _Picture(graph, title).draw()


class _Picture:
    """The measures of one picture, and its parts as SVG elements."""

    def __init__(self, graph: Graph, title: str) -> None:
        self._graph = graph
        self._title = escape(title)
        self._layout: Layout = lay_out(graph)
        self._colours = provider_colours(graph)
        self._lefts, self._widths = self._columns()

    def draw(self) -> str:
        """Return the whole picture."""
        places = self._layout.places.values()
        bends = (bend for edge in self._layout.edges for bend in edge.bends)
        legend_y = self._y(max((place.row for place in (*places, *bends)), default=0)) + _ROW + 16
        width = max(self._lefts[-1] + self._widths[-1] + _MARGIN, _MIN_WIDTH)
        height = legend_y + _LEGEND_ROW * self._legend_rows(width) + _MARGIN
        size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
        lines = (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            f"<title>{self._title}</title>",
            f"<style>{_STYLE}</style>",
            '<rect class="paper" width="100%" height="100%"/>',
            *self._heading(),
            *self._edges(),
            *self._boxes(),
            *self._legend(legend_y, width),
            "</svg>\n",
        )
        return "\n".join(lines)

    def _columns(self) -> tuple[list[float], list[float]]:
        """Return the left edge and the width of each column."""
        widths = [
            _CHARACTER_WIDTH * max((len(name) for name in names), default=0) + _PADDING
            for names in self._graph.levels()
        ]
        lefts = [_MARGIN]
        for width in widths[:-1]:
            lefts.append(lefts[-1] + width + _GAP)
        return lefts, widths

    def _y(self, row: float) -> float:
        return _MARGIN + _TITLE + _ROW / 2 + row * _ROW

    def _heading(self) -> Iterator[str]:
        yield f'<text class="title" x="{_MARGIN:g}" y="{_MARGIN + 10:g}">{self._title}</text>'
        for column, (left, width) in enumerate(zip(self._lefts, self._widths, strict=True)):
            name = "inputs" if column == 0 else f"level {column}"
            yield (
                f'<text class="quiet" text-anchor="middle" x="{left + width / 2:.1f}" '
                f'y="{_MARGIN + 42:g}">{name}</text>'
            )

    def _edges(self) -> Iterator[str]:
        # Optional links first, so that mandatory ones cross over them.
        for edge in sorted(self._layout.edges, key=lambda each: each.mandatory):
            colour = self._colours[self._graph.products[edge.product].provider]
            kind = "edge" if edge.mandatory else "edge optional"
            yield f'<path class="{kind}" stroke="{colour}" d="{self._curve(edge)}"/>'

    def _curve(self, edge: Edge) -> str:
        places = self._layout.places
        stops = (places[edge.source], *edge.bends, places[edge.product])
        path = [f"M{self._right(stops[0]):.1f} {self._y(stops[0].row):.1f}"]
        for before, place in pairwise(stops):
            x, y = self._lefts[place.column], self._y(place.row)
            middle, before_y = x - _GAP / 2, self._y(before.row)
            path.append(f"C{middle:.1f} {before_y:.1f} {middle:.1f} {y:.1f} {x:.1f} {y:.1f}")
            if place is not stops[-1]:
                path.append(f"H{self._right(place):.1f}")
        return " ".join(path)

    def _right(self, place: Place) -> float:
        return self._lefts[place.column] + self._widths[place.column]

    def _boxes(self) -> Iterator[str]:
        for name, place in self._layout.places.items():
            product = self._graph.products.get(name)
            colour = self._colours[product.provider] if product else None
            yield self._box(name, place, colour, _description(product) if product else "input")

    def _box(self, name: str, place: Place, colour: str | None, title: str) -> str:
        left, width, y = self._lefts[place.column], self._widths[place.column], self._y(place.row)
        kind, fill = ("box", f' fill="{colour}"') if colour else ("box input", "")
        return (
            f'<g class="{kind}"><title>{escape(name)}: {escape(title)}</title>'
            f'<rect x="{left:.1f}" y="{y - _BOX_HEIGHT / 2:.1f}" width="{width:.1f}" '
            f'height="{_BOX_HEIGHT:g}" rx="{13 if not colour else 5}"{fill}/>'
            f'<text x="{left + width / 2:.1f}" y="{y:.1f}">{escape(name)}</text></g>'
        )

    def _legend(self, top: float, width: float) -> Iterator[str]:
        yield f'<text class="quiet" x="{_MARGIN:g}" y="{top:.1f}">made by</text>'
        entries = self._legend_entries()
        rows = self._legend_rows(width)
        for rank, (mark, meaning) in enumerate(entries):
            column, row = divmod(rank, rows)
            x, y = _MARGIN + column * self._legend_width(), top + (row + 1) * _LEGEND_ROW
            text = f'<text x="36">{escape(meaning)}</text>'
            yield f'<g transform="translate({x:.1f} {y:.1f})">{mark}{text}</g>'

    def _legend_entries(self) -> list[tuple[str, str]]:
        """Return a mark and its meaning for each provider and each kind of link."""
        box = '<rect y="-11" width="26" height="14" rx="3" fill="{}"/>'
        line = f'<path class="{{}}" stroke="{_INPUT_COLOUR}" d="M0 -4h26"/>'
        return [
            *((box.format(colour), name) for name, colour in self._colours.items()),
            (line.format("edge"), "mandatory input"),
            (line.format("edge optional"), "optional input"),
        ]

    def _legend_width(self) -> float:
        return _CHARACTER_WIDTH * max(len(meaning) for _, meaning in self._legend_entries()) + 60

    def _legend_rows(self, width: float) -> int:
        columns = max(1, int((width - 2 * _MARGIN) / self._legend_width()))
        return -(-len(self._legend_entries()) // columns)


def _description(product: Product) -> str:
    optional = f", optionally {', '.join(product.o_input)}" if product.o_input else ""
    return f"made by {product.provider} from {', '.join(product.m_input)}{optional}"
