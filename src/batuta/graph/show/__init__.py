"""The product graph shown: as text for a terminal, Mermaid, SVG or JSON."""

from batuta.graph.show.document import as_json
from batuta.graph.show.mermaid import as_mermaid
from batuta.graph.show.svg import as_svg
from batuta.graph.show.text import as_text

__all__ = ["as_json", "as_mermaid", "as_svg", "as_text"]
