"""REST route of what fails, grouped."""

from typing import Annotated, Final

from fastapi import Query

from batuta.conductor.database.views.failure_views import FailureGroup, FailureViews
from batuta.conductor.routes.common import invalid_cursor
from batuta.service.pagination import Page
from batuta.service.routing import ServiceRouter

MAX_ITEMS: Final = 1000


def failure_router(views: FailureViews) -> ServiceRouter:
    """Return the route."""
    router = ServiceRouter(tags=["processings"])

    @router.get("/failures")
    def failures(
        provider: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_ITEMS)] = 100,
        cursor: Annotated[str | None, Query(max_length=2000)] = None,
    ) -> Page[FailureGroup]:
        """What has failed, or is tried again, grouped by provider and by what errors share."""
        try:
            return views.page(provider, limit, cursor)
        except ValueError as exc:
            raise invalid_cursor(cursor) from exc

    return router
