"""The graph in force: one value, read anew for each decision, and replaced in one place."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.schema import graph_versions as table
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.graph import Graph
from batuta.service.database import one_moment, reading


@dataclass(frozen=True, slots=True)
class NumberedGraph:
    """A graph, and the number of the version that it is."""

    graph: Graph
    number: int


class CurrentGraph:
    """Holds the graph in force.

    It is replaced between two transactions of those that decide: what one of them reads of it is
    of one version. Who only reads, in other threads, and needs several values that agree, takes
    `in_force` once, or reads within `one_moment`.

    Parameters
    ----------
    graph : Graph
        The graph in force at first.
    number : int
        The number of its version.
    former : iterable of Graph
        Earlier versions, the oldest first: what runs at a provider of theirs is followed there.
    """

    def __init__(self, graph: Graph, number: int = 1, former: Iterable[Graph] = ()) -> None:
        self._in_force = NumberedGraph(graph, number)
        self._former_urls: dict[str, tuple[str, ...]] = {}
        for each in former:
            self._keep_urls(each)

    @classmethod
    def of(cls, graph: "Graph | CurrentGraph") -> "CurrentGraph":
        """Return a holder as it is, and a graph that never changes in one of its own."""
        return graph if isinstance(graph, CurrentGraph) else cls(graph)

    @property
    def in_force(self) -> NumberedGraph:
        """The graph in force, with its number; within `one_moment`, that which was at its start."""
        kept = _KEPT.get()
        return kept[1] if kept is not None and kept[0] is self else self._in_force

    @property
    def graph(self) -> Graph:
        """The graph in force."""
        return self.in_force.graph

    @property
    def number(self) -> int:
        """The number of its version."""
        return self.in_force.number

    @contextmanager
    def one_moment(self, engine: sa.Engine) -> Iterator[None]:
        """Let an answer be of one moment of the database, and by the graph in force at that.

        See `batuta.service.database.one_moment`. Another version may be put in force meanwhile.
        """
        with one_moment(engine):
            token = _KEPT.set((self, self._in_force_in(engine)))
            try:
                yield
            finally:
                _KEPT.reset(token)

    def _in_force_in(self, engine: sa.Engine) -> NumberedGraph:
        # Read at first: of this moment are then all statements that follow.
        with reading(engine) as connection:
            number, known = connection.scalar(_NUMBER), self.in_force
            if number is None or number == known.number:
                return known
            # Put in force in this moment, here or by another conductor of this database.
            row = connection.execute(_DOCUMENT, {"of": number}).one()
        return NumberedGraph(graph_of(row), number)

    def urls_of(self, provider: str) -> tuple[str, ...]:
        """Return the addresses of a provider of this graph, or else of the last that had it."""
        known = self.graph.providers.get(provider)
        return self._former_urls.get(provider, ()) if known is None else known.urls

    def _keep_urls(self, graph: Graph) -> None:
        kept = {name: provider.urls for name, provider in graph.providers.items()}
        self._former_urls = self._former_urls | kept

    def decided(self, record: ProcessingRecord) -> ProcessingRecord:
        """Return a record of which something was decided by the graph in force."""
        return replace(record, graph_version=self.number, set_aside=None)

    def replace(self, graph: Graph, number: int) -> None:
        """Put another version in force."""
        self._keep_urls(self._in_force.graph)
        # One assignment: other threads see the old version or the new one.
        self._in_force = NumberedGraph(graph, number)


def graph_of(row: sa.Row[Any]) -> Graph:
    """Return the graph of a version that is recorded.

    Raises
    ------
    GraphError
        If it is of an earlier Batuta, which accepted it.
    """
    return Graph.parse(json.loads(row.document), f"graph version {row.number}")


_NUMBER: Final = sa.select(sa.func.max(table.c.number))
_DOCUMENT: Final[sa.Select[Any]] = sa.select(table.c.number, table.c.document).where(
    table.c.number == sa.bindparam("of")
)
_KEPT: ContextVar[tuple[CurrentGraph, NumberedGraph] | None] = ContextVar(
    "graph_of_one_moment", default=None
)


class ReadsGraph:
    """Base of what decides, or explains, by the graph in force.

    Parameters
    ----------
    graph : Graph or CurrentGraph
        The product graph; or what holds the one in force, which may change.
    """

    def __init__(self, graph: Graph | CurrentGraph) -> None:
        self._current = CurrentGraph.of(graph)

    @property
    def _graph(self) -> Graph:
        return self._current.graph
