"""What several routes of the conductor accept and refuse alike."""

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Query

from batuta.conductor.database.views.observations import (
    MAX_ITEMS,
)
from batuta.graph import Graph
from batuta.service.problems import ProblemError, problem_responses
from batuta.spelling import NameSuggester
from batuta.stages import STAGE_RULE, Stage, stage_from_text

UNKNOWN: Final = problem_responses(HTTPStatus.NOT_FOUND)

Limit = Annotated[int, Query(ge=1, le=MAX_ITEMS)]


Pattern = Annotated[
    str | None, Query(max_length=200, description="`*` stands for any text, `?` for any letter.")
]


StageFilter = Annotated[
    str | None, Query(max_length=20, description=f"As it was told: {STAGE_RULE}.")
]


def stage_of(text: str | None) -> Stage | None:
    """Return the stage that a query selects by; None if it selects by none."""
    try:
        return None if text is None else stage_from_text(text)
    except ValueError as exc:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"stage: {exc}") from exc


def invalid_cursor(cursor: str | None) -> ProblemError:
    """Return the refusal of a cursor that no page had."""
    return ProblemError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        f"cursor: invalid cursor {cursor!r} (accepted: the `next` of a page)",
    )


def unknown_product(graph: Graph, product: str) -> ProblemError:
    """Return the refusal of a product that the graph does not make."""
    known = sorted(graph.products)
    if product in graph.inputs:
        detail = f'{product} is an input: it comes by "batuta import"'
    else:
        hint = NameSuggester([*graph.products, *graph.inputs]).hint(product)
        detail = f"product {product!r}: not in the graph{hint} (known: {', '.join(known)})"
    return ProblemError(HTTPStatus.NOT_FOUND, detail, known=known)
