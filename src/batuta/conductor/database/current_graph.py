"""The graph in force: one value, read anew for each decision, and replaced in one place."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.graph import Graph


@dataclass(frozen=True, slots=True)
class NumberedGraph:
    """A graph, and the number of the version that it is."""

    graph: Graph
    number: int


class CurrentGraph:
    """Holds the graph in force.

    It is replaced between two transactions of those that decide: what one of them reads of it is
    of one version. Who only reads, in other threads, and needs several values that agree, takes
    `in_force` once.

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
        self.in_force = NumberedGraph(graph, number)
        self._former_urls: dict[str, tuple[str, ...]] = {}
        for each in former:
            self._keep_urls(each)

    @classmethod
    def of(cls, graph: "Graph | CurrentGraph") -> "CurrentGraph":
        """Return a holder as it is, and a graph that never changes in one of its own."""
        return graph if isinstance(graph, CurrentGraph) else cls(graph)

    @property
    def graph(self) -> Graph:
        """The graph in force."""
        return self.in_force.graph

    @property
    def number(self) -> int:
        """The number of its version."""
        return self.in_force.number

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
        self._keep_urls(self.graph)
        # One assignment: other threads see the old version or the new one.
        self.in_force = NumberedGraph(graph, number)


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
