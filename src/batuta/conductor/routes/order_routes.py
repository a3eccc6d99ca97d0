"""REST routes of what operators have ordered, and who an operator is."""

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import AwareDatetime

from batuta.conductor.database.orders import OrderView, OrderViews
from batuta.service.access import PROVED_OPERATOR
from batuta.service.operators import OPERATOR_HEADER, OPERATOR_RULE, Operator, is_operator_name
from batuta.service.pagination import Page
from batuta.service.problems import ProblemError, problem_responses

MAX_ITEMS: Final = 1000

Text = Annotated[str | None, Query(max_length=200)]


def operator_of(request: Request) -> Operator:
    """Return who gives a command: the owner of the token that came with it, else who is claimed.

    Raises
    ------
    ProblemError
        If the header is no name.
    """
    proved: str | None = getattr(request.state, PROVED_OPERATOR, None)
    if proved is not None:
        return Operator(proved, proved=True)
    claimed = request.headers.get(OPERATOR_HEADER)
    if claimed is not None and not is_operator_name(claimed):
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"{OPERATOR_HEADER}: {claimed!r:.80} is refused (accepted: {OPERATOR_RULE})",
        )
    return Operator(claimed)


ByOperator = Annotated[Operator, Depends(operator_of)]
"""Who gives a command: a parameter of every route that carries one out."""


def order_router(views: OrderViews) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/orders", tags=["orders"])

    @router.get("")
    def orders(
        command: Text = None,
        operator: Text = None,
        since: AwareDatetime | None = None,
        until: AwareDatetime | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_ITEMS)] = 100,
        cursor: Annotated[
            int | None, Query(ge=0, lt=2**31, description="`next` of the page before")
        ] = None,
    ) -> Page[OrderView]:
        """What operators have ordered, the newest first: who, when, what and why."""
        filters = {"command": command, "operator": operator}
        return views.page(filters, since, until, limit, cursor)

    @router.get("/{number}", responses=problem_responses(HTTPStatus.NOT_FOUND))
    def order(number: Annotated[int, Path(ge=0, lt=2**31)]) -> OrderView:
        """One of them by its number; of a set, how far it has come."""
        found = views.find(number)
        if found is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, f"order {number}: not found")
        return found

    return router
