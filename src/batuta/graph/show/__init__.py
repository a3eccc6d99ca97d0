"""The product graph as text for a terminal, Mermaid, SVG or JSON."""

import json

from batuta.graph.graph import Graph
from batuta.graph.show.mermaid import as_mermaid
from batuta.graph.show.svg import as_svg
from batuta.graph.show.text import as_text

__all__ = ["as_json", "as_mermaid", "as_svg", "as_text"]


def as_json(graph: Graph) -> str:
    """Return the whole document, defaults written out, as indented JSON that can be read back."""
    return json.dumps(graph.as_document(), indent=2)
