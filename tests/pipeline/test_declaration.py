"""Declaring a pipeline: what is wrong is refused where it is declared."""

from collections.abc import Callable
from pathlib import Path

import pytest

from batuta.errors import ConfigurationError
from batuta.pipeline import Context, Pipeline


def made(context: Context) -> Path:
    return context.output_path("x")


def test_a_product_is_declared_with_all_that_it_needs() -> None:
    pipeline = Pipeline("timing_pipeline")
    declare = pipeline.product(
        "LC", inputs=["EVENTS"], optional=["GTI"], also_makes=["BKG"], timeout_s=60
    )
    assert declare(made) is made
    spec = pipeline.products["LC"]
    assert (spec.inputs, spec.optional, spec.timeout_s) == (("EVENTS",), ("GTI",), 60)
    assert spec.makes == ("LC", "BKG")
    assert repr(pipeline) == "<Pipeline 'timing_pipeline': LC>"


def test_every_mistake_in_a_declaration_is_reported() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Pipeline("p").product(
            "A/B", inputs=["E", "../E"], optional=["E"], also_makes=["C", "C"], timeout_s=0
        )(made)
    message = str(caught.value)
    for mistake in [
        "product: 'A/B' is not a name",
        "product 'A/B': inputs: '../E' is not a name",
        "product 'A/B': inputs, optional: 'E' twice",
        "product 'A/B': also_makes: 'C' twice",
        "product 'A/B': timeout_s: 0 (accepted: seconds above 0)",
    ]:
        assert mistake in message


def test_a_pipeline_must_have_the_name_of_a_service() -> None:
    with pytest.raises(ConfigurationError, match=r"pipeline: 'a\.b' is not a service's name"):
        Pipeline("a.b")


def test_a_product_is_declared_once() -> None:
    pipeline = Pipeline("p")
    pipeline.product("A")(made)
    with pytest.raises(ConfigurationError, match="product 'A': declared twice in pipeline 'p'"):
        pipeline.product("A")(made)


def test_a_single_name_where_a_list_is_expected_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="inputs: 'EVENTS' given, a list of names"):
        Pipeline("p").product("A", inputs="EVENTS")


async def _async(context: Context) -> Path:
    return context.output_path("x")


@pytest.mark.parametrize(
    ("function", "why"),
    [(_async, "_async is async"), (lambda: None, "must take one argument, the context")],
)
def test_a_function_that_cannot_be_called_with_a_context_is_refused(
    function: Callable[..., object], why: str
) -> None:
    with pytest.raises(ConfigurationError, match=why):
        Pipeline("p").product("A")(function)
