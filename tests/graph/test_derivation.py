"""A graph is derived from what pipelines declare."""

from typing import Any

import pytest

from batuta.errors import ConfigurationError
from batuta.graph import (
    DeclaredPipeline,
    DeclaredProduct,
    Graph,
    OnUpdate,
    derive_document,
    load_override,
)

WEATHER = DeclaredPipeline(
    use="weather:pipeline",
    name="weather",
    products={
        "STATISTICS": DeclaredProduct(inputs=("READINGS",), keys={"max_attempts": 2}),
        "OUTLIERS": DeclaredProduct(inputs=("READINGS", "STATISTICS"), optional=("SITE",)),
    },
)
REPORTS = DeclaredPipeline(
    use="reports.yaml",
    name="reports",
    products={"REPORT": DeclaredProduct(inputs=("OUTLIERS",), also_makes=("PAGE",))},
)


def test_what_no_pipeline_makes_arrives_from_outside() -> None:
    graph = Graph.parse(derive_document([WEATHER, REPORTS]))
    assert graph.inputs == ("READINGS", "SITE")
    assert list(graph.products) == ["STATISTICS", "OUTLIERS", "REPORT"]
    assert graph.products["OUTLIERS"].sources == ("READINGS", "STATISTICS", "SITE")
    assert graph.products["REPORT"].provider == "reports"
    assert graph.products["STATISTICS"].max_attempts == 2


def test_an_override_states_what_the_pipelines_do_not() -> None:
    override = {
        "inputs": ["SPARE"],
        "expected": ["SITE"],
        "products": {"OUTLIERS": {"on_update": "reprocess", "o_wait": 5}},
        "providers": {"weather": {"max_concurrent": 3}},
    }
    graph = Graph.parse(derive_document([WEATHER, REPORTS], override))
    assert graph.inputs == ("READINGS", "SITE", "SPARE")
    assert graph.expected == ("SITE",)
    assert graph.products["OUTLIERS"].on_update is OnUpdate.REPROCESS
    assert graph.products["OUTLIERS"].o_input == ("SITE",)
    assert graph.providers["weather"].max_concurrent == 3


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ({"products": {"OUTLIER": {}}}, "products: no pipeline here is or makes 'OUTLIER'"),
        ({"providers": {"wether": {}}}, "is or makes 'wether' (did you mean 'weather'?)"),
        ({"product": {}}, "override: the key 'product' is unknown"),
        ({"products": []}, "override: products: [] given, an object expected"),
        ({"products": {"OUTLIERS": 3}}, "override: OUTLIERS: 3 given, an object expected"),
    ],
)
def test_a_mistake_in_an_override_is_told(override: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        derive_document([WEATHER], override)
    assert len(caught.value.problems) == 1
    assert problem in caught.value.problems[0]


def test_a_product_of_two_pipelines_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="STATISTICS: made by weather:pipeline and by b:p"):
        derive_document([WEATHER, DeclaredPipeline(use="b:p", name="b", products=WEATHER.products)])


@pytest.mark.parametrize("text", ["[1]", "3", "{", "a: [", ""])
def test_an_override_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^override\.yaml: "):
        load_override(text, "override.yaml")
