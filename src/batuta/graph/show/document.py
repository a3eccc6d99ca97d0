"""The graph as JSON."""

import json

from batuta.graph.graph import Graph


def as_json(graph: Graph) -> str:
    """Return the whole document, defaults written out, as indented JSON that can be read back."""
    return json.dumps(graph.as_document(), indent=2)
