"""Graphs that the conductor's tests play."""

from batuta.graph import Graph

URL = "http://127.0.0.1:1/pipeline"


def graph_of(
    inputs: list[str],
    products: dict[str, dict[str, object]],
    providers: dict[str, dict[str, object]] | None = None,
) -> Graph:
    """A graph whose products need only say what is particular to them."""
    document: dict[str, object] = {
        "inputs": inputs,
        "products": {
            name: {"o_input": [], "provider": "maker", "url": URL, **product}
            for name, product in products.items()
        },
    }
    if providers:
        document["providers"] = providers
    return Graph.parse(document)


def diamond(**of_the_last: object) -> Graph:
    """``A`` feeds ``B`` and ``C``, which both feed ``D``."""
    return graph_of(
        ["A"],
        {
            "B": {"m_input": ["A"]},
            "C": {"m_input": ["A"]},
            "D": {"m_input": ["B", "C"], **of_the_last},
        },
    )


TWO_PROVIDERS = graph_of(
    ["A"],
    {
        "B": {"m_input": ["A"]},
        "C": {"m_input": ["A"], "provider": "other", "max_attempts": 3},
    },
)
"""B of `maker` and C of `other`, both made from A."""
