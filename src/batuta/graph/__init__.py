"""The product graph of the orchestra: reading it, checking it, finding what can be made."""

from batuta.graph.comparison import GraphComparison, compare
from batuta.graph.derivation import (
    DeclaredPipeline,
    DeclaredProduct,
    derive_document,
    load_override,
)
from batuta.graph.errors import GraphError
from batuta.graph.graph import Graph, read_graph
from batuta.graph.model import (
    Approval,
    DueFrom,
    LateResult,
    MadeAt,
    OnLate,
    OnUpdate,
    Product,
    Provider,
    WaitFrom,
)

__all__ = [
    "Approval",
    "DeclaredPipeline",
    "DeclaredProduct",
    "DueFrom",
    "Graph",
    "GraphComparison",
    "GraphError",
    "LateResult",
    "MadeAt",
    "OnLate",
    "OnUpdate",
    "Product",
    "Provider",
    "WaitFrom",
    "compare",
    "derive_document",
    "load_override",
    "read_graph",
]
