"""The position of each name of a graph in a picture layered from left to right.

The usual way of layered drawings (Sugiyama, Tagawa and Toda, 1981): an edge over several levels
gets a bend in each level between; names and bends are put in an order with few crossings, then
shifted towards what they are joined to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from statistics import fmean
from typing import Final

from batuta.graph.graph import Graph

_SWEEPS: Final = 24
_BEND_HEIGHT: Final = 0.45

Bend = tuple[str, str, int]
"""The edge (source, product) where it passes the column of that number."""

Node = str | Bend


@dataclass(frozen=True, slots=True)
class Place:
    """A column (the level), and a row in it: 0 is the top, 1 the height of a name below."""

    column: int
    row: float


@dataclass(frozen=True, slots=True)
class Edge:
    """A link from a source to a product, by way of `bends` from left to right."""

    source: str
    product: str
    mandatory: bool
    bends: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """The place of every name, and every edge between them."""

    places: Mapping[str, Place]
    edges: tuple[Edge, ...]


@dataclass(frozen=True)
class _Layers:
    """The nodes by column, and what each is joined to in the columns next to its own."""

    columns: list[list[Node]]
    left: dict[Node, list[Node]] = field(default_factory=dict)
    right: dict[Node, list[Node]] = field(default_factory=dict)

    def join(self, chain: Sequence[Node]) -> None:
        """Link each node of a chain to the next."""
        for source, target in pairwise(chain):
            self.right.setdefault(source, []).append(target)
            self.left.setdefault(target, []).append(source)


def lay_out(graph: Graph) -> Layout:
    """Place every name of `graph`, and every bend of its edges."""
    levels = graph.levels()
    column_of = {name: column for column, names in enumerate(levels) for name in names}
    layers = _Layers([list(names) for names in levels])
    bends: dict[tuple[str, str], list[Bend]] = {}
    for product in graph.products.values():
        for source in product.sources:
            between = range(column_of[source] + 1, column_of[product.name])
            passed = [(source, product.name, column) for column in between]
            for bend in passed:
                layers.columns[bend[2]].append(bend)
            layers.join([source, *passed, product.name])
            bends[source, product.name] = passed
    _order(layers)
    rows = _rows(layers)
    places = {name: Place(column, rows[name]) for name, column in column_of.items()}
    edges = (
        Edge(
            source,
            product,
            mandatory=source in graph.products[product].m_input,
            bends=tuple(Place(bend[2], rows[bend]) for bend in passed),
        )
        for (source, product), passed in bends.items()
    )
    return Layout(places, tuple(edges))


def _order(layers: _Layers) -> None:
    """Sort each column by the mean position of its nodes' neighbours, back and forth."""
    position = {node: rank for column in layers.columns for rank, node in enumerate(column)}
    for sweep in range(_SWEEPS):
        backwards = sweep % 2 == 0
        joined = layers.right if backwards else layers.left
        for column in reversed(layers.columns) if backwards else layers.columns:
            wanted = {node: _mean(node, joined, position) for node in column}
            column.sort(key=wanted.__getitem__)
            position.update({node: rank for rank, node in enumerate(column)})


def _rows(layers: _Layers) -> dict[Node, float]:
    """Return the row of each node, as near as possible to the mean of its neighbours."""
    rows: dict[Node, float] = {}
    for column in layers.columns:
        rows.update(zip(column, _offsets(column), strict=True))
    for sweep in range(_SWEEPS):
        # The last shift is towards the sources, so that products stand by what makes them.
        joined = layers.right if sweep % 2 == 0 else layers.left
        for column in reversed(layers.columns) if sweep % 2 == 0 else layers.columns:
            wanted = [_mean(node, joined, rows) for node in column]
            rows.update(zip(column, _apart(wanted, _offsets(column)), strict=True))
    top = min(rows.values(), default=0.0)
    return {node: row - top for node, row in rows.items()}


def _mean(node: Node, joined: Mapping[Node, list[Node]], at: Mapping[Node, float]) -> float:
    return fmean(at[other] for other in joined[node]) if node in joined else at[node]


def _offsets(column: Sequence[Node]) -> list[float]:
    """Return the rows of a column's nodes when they stand one right below the other."""
    heights = [1.0 if isinstance(node, str) else _BEND_HEIGHT for node in column]
    bottoms = accumulate(heights)
    return [bottom - height / 2 for bottom, height in zip(bottoms, heights, strict=True)]


def _apart(wanted: Sequence[float], offsets: Sequence[float]) -> list[float]:
    """Return the rows nearest to the `wanted` ones that keep the order and the distances.

    Least squares by pooling: nodes that would overlap form a block, which goes to the mean of
    what its nodes want.
    """
    blocks: list[tuple[float, int]] = []
    for row, offset in zip(wanted, offsets, strict=True):
        mean, count = row - offset, 1
        while blocks and blocks[-1][0] > mean:
            above, number = blocks.pop()
            mean, count = (mean * count + above * number) / (count + number), count + number
        blocks.append((mean, count))
    starts = [mean for mean, count in blocks for _ in range(count)]
    return [start + offset for start, offset in zip(starts, offsets, strict=True)]
