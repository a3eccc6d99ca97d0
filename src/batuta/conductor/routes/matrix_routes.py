"""Observations by products, over HTTP."""

from typing import Annotated, Final

from fastapi import Query

from batuta.conductor.database.views.matrix_views import MatrixRow, MatrixViews
from batuta.conductor.routes.common import invalid_cursor
from batuta.service.pagination import Page
from batuta.service.routing import ServiceRouter

MAX_ITEMS: Final = 1000


def matrix_router(views: MatrixViews) -> ServiceRouter:
    """Return the route of the matrix of observations and products."""
    router = ServiceRouter(tags=["observations"])

    @router.get("/matrix")
    def matrix(
        limit: Annotated[int, Query(ge=1, le=MAX_ITEMS)] = 100, cursor: str | None = None
    ) -> Page[MatrixRow]:
        """Observations, those first that were heard of last, with the state of each product."""
        try:
            return views.page(limit, cursor)
        except ValueError as exc:
            raise invalid_cursor(cursor) from exc

    return router
