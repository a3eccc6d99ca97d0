"""The product graph of the orchestra: reading it, checking it, finding what can be made."""

from batuta.graph.errors import GraphError
from batuta.graph.graph import Graph, read_graph
from batuta.graph.model import OnUpdate, Product, Provider

__all__ = ["Graph", "GraphError", "OnUpdate", "Product", "Provider", "read_graph"]
