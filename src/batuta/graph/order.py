"""Levels and cycles of a directed graph, found in time linear in nodes and edges.

A graph is a mapping from each node to its sources: what it is made from. A source that is not
itself a key of the mapping is a leaf. Nothing recurses, so that a chain may be of any length.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

Sources = Mapping[str, Sequence[str]]


def dependents(sources: Sources) -> dict[str, list[str]]:
    """Return, for each node or leaf, the nodes made from it, in the order of `sources`."""
    fed: dict[str, list[str]] = {}
    for node, its_sources in sources.items():
        for source in its_sources:
            fed.setdefault(source, []).append(node)
    return fed


def find_levels(sources: Sources) -> dict[str, int]:
    """Return the level of each node: 0 for a leaf, else one more than its highest source.

    Nodes of a cycle, and those made from them, have no level and are left out; so are leaves.
    """
    fed = dependents(sources)
    unplaced = {
        node: sum(source in sources for source in its_sources)
        for node, its_sources in sources.items()
    }
    levels: dict[str, int] = {}
    ready = deque(node for node, count in unplaced.items() if count == 0)
    while ready:
        node = ready.popleft()
        levels[node] = 1 + max((levels.get(source, 0) for source in sources[node]), default=0)
        for follower in fed.get(node, ()):
            unplaced[follower] -= 1
            if unplaced[follower] == 0:
                ready.append(follower)
    return levels


def find_cycles(sources: Sources) -> Iterator[tuple[str, ...]]:
    """Yield each independent cycle once, as short as possible, in the direction of the data.

    Each link that closes a cycle yields one, so that together they show every link to undo.
    ``("A", "B")`` means that B is made from A and A from B.
    """
    placed = find_levels(sources)
    circular = {
        node: [source for source in its_sources if source in sources and source not in placed]
        for node, its_sources in sources.items()
        if node not in placed
    }
    rank = {node: position for position, node in enumerate(circular)}
    yielded: set[tuple[str, ...]] = set()
    for node, source in _closing_links(circular):
        cycle = _from_first(_shortest_path(circular, source, node), rank)
        if cycle not in yielded:
            yielded.add(cycle)
            yield cycle


def _closing_links(sources: Sources) -> Iterator[tuple[str, str]]:
    """Walk depth first; yield (node, source) where the source is being walked from already."""
    done: set[str] = set()
    for start in sources:
        if start in done:
            continue
        walking = {start}
        stack = [(start, iter(sources[start]))]
        while stack:
            node, remaining = stack[-1]
            source = next((name for name in remaining if name not in done), None)
            if source is None:
                stack.pop()
                walking.remove(node)
                done.add(node)
            elif source in walking:
                yield node, source
            else:
                walking.add(source)
                stack.append((source, iter(sources[source])))


def _shortest_path(sources: Sources, start: str, end: str) -> list[str]:
    """Return the nodes from `end` to `start`, each a source of the next one."""
    came_from = {start: start}
    queue = deque([start])
    while end not in came_from:
        node = queue.popleft()
        for source in sources[node]:
            if source not in came_from:
                came_from[source] = node
                queue.append(source)
    path = [end]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return path


def _from_first(cycle: Sequence[str], rank: Mapping[str, int]) -> tuple[str, ...]:
    """Rotate a cycle so that it starts with the node that the document names first."""
    first = min(range(len(cycle)), key=lambda position: rank[cycle[position]])
    return (*cycle[first:], *cycle[:first])
