"""Why a product was, or was not, made: in words."""

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from batuta.conductor.database.records import Row
from batuta.conductor.database.schema import observations
from batuta.conductor.decisions.approvals import Question, question_text
from batuta.conductor.decisions.stages import Staged, waited_for
from batuta.graph import Graph, Product
from batuta.spelling import NameSuggester

NEIGHBOURS: Final = 500
"""Observations that are compared with a misspelt one, before it and after it."""


def answer_without_processing(
    product: str,
    versions: Mapping[str, int],
    rows: list[Row],
    graph: Graph,
    kept: Mapping[str, Question],
    staged: Staged | None = None,
) -> str:
    """Explain why a product has no processing, by what its observation has and lacks."""
    if product in versions:
        how = "arrived from outside" if product in graph.inputs else "was announced by hand"
        return f"{product} is available: it {how}"
    if product not in graph.products:
        return f"{product} is an input, and has not arrived"
    definition = graph.products[product]
    absent = [
        f"{name}, of which {question_text(kept[name])}"
        if name in kept
        else _absence(name, rows, graph, versions)
        for name in definition.m_input
        if name not in versions
    ]
    absent += _too_few(definition, rows, graph, versions)
    waits = waited_for(definition, versions, staged)
    reasons = [f"it waits for {waits}"] if waits else []
    reasons += [f"it lacks {'; '.join(absent)}"] if absent else []
    if reasons:
        return f"{product} was not made: {', and '.join(reasons)}"
    return f"{product} was not made: none of its inputs has been announced since it could be"


def _too_few(
    product: Product, rows: list[Row], graph: Graph, versions: Mapping[str, int]
) -> list[str]:
    """Explain that there are fewer optional inputs than are needed."""
    missing = [name for name in product.lacks(versions) if name in product.o_input]
    if not missing:
        return []
    more = product.o_min - (len(product.o_input) - len(missing))
    which = ", ".join(_absence(name, rows, graph, versions) for name in missing)
    return [f"{more} more of its optional inputs ({which})"]


def _absence(name: str, rows: list[Row], graph: Graph, versions: Mapping[str, int]) -> str:
    """Explain a missing input: it failed, is being made, lacks inputs itself, or never came."""
    row = next((row for row in reversed(rows) if row.product == name), None)
    if row is not None:
        return f"{name}, which is {row.state}" + (f" ({row.error})" if row.error else "")
    if name in graph.inputs:
        return f"{name}, which has not arrived"
    lacks = ", ".join(graph.missing_for(name, versions))
    return f"{name}, which lacks {lacks}" if lacks else f"{name}, which is not made yet"


def answer_of_processing(product: str, row: Row, kept: Mapping[str, Question]) -> str:
    """Explain a product by its processing, and by what keeps its newest version back."""
    asked = f"; {question_text(kept[product])}" if product in kept else ""
    made_from = ", ".join(
        f"{name} v{version}" if version else name for name, version in row.inputs.items()
    )
    status = (
        f"{product} is {row.state} at {row.provider}, attempt {row.attempt} of {row.max_attempts}"
    )
    error = f": {row.error}" if row.error else ""
    return f"{status}{error}; claimed from {made_from}{asked}"


def near(connection: sa.Connection, obs_id: str) -> str:
    """Return a hint to the name of an observation that is nearly `obs_id`; may be empty.

    Only its neighbours in alphabetical order are compared, so that a million cost no more.
    """
    column = observations.c.obs_id
    before = sa.select(column).where(column < obs_id).order_by(column.desc()).limit(NEIGHBOURS)
    after = sa.select(column).where(column > obs_id).order_by(column).limit(NEIGHBOURS)
    names = [*connection.scalars(before), *connection.scalars(after)]
    return f"; nothing is known of {obs_id}{NameSuggester(names).hint(obs_id)}"
