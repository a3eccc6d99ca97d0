"""REST routes of what operators have ordered."""

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Path, Query

from batuta.conductor.database.orders import OrderView, OrderViews
from batuta.service.instants import Instant
from batuta.service.pagination import Page
from batuta.service.problems import ProblemError, problem_responses
from batuta.service.routing import ServiceRouter

MAX_ITEMS: Final = 1000

Text = Annotated[str | None, Query(max_length=200)]


def order_router(views: OrderViews) -> ServiceRouter:
    """Return the routes."""
    router = ServiceRouter(prefix="/orders", tags=["orders"])

    @router.get("")
    def orders(
        command: Text = None,
        operator: Text = None,
        since: Instant | None = None,
        until: Instant | None = None,
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
