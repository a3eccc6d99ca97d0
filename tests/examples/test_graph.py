from pathlib import Path
from typing import Any

from batuta.graph import read_graph
from batuta.pipeline import Pipeline

GRAPH = Path(__file__).parents[2] / "examples" / "demo" / "graph.json"


def test_the_graph_of_the_demonstration_is_sound() -> None:
    assert len(read_graph(GRAPH).products) == 14


def test_each_pipeline_declares_what_the_graph_says(
    graph: dict[str, Any], pipelines: dict[str, Pipeline]
) -> None:
    declared = {
        name: (provider, list(spec.inputs), list(spec.optional))
        for provider, pipeline in pipelines.items()
        for name, spec in pipeline.products.items()
    }
    told = {
        name: (entry["provider"], entry["m_input"], entry["o_input"])
        for name, entry in graph["products"].items()
    }
    assert declared == told


def test_each_provider_has_an_address_of_its_own(graph: dict[str, Any]) -> None:
    addresses = {(entry["provider"], entry["url"]) for entry in graph["products"].values()}
    assert len(addresses) == len(graph["providers"]) == len({url for _, url in addresses})
