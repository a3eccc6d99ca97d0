"""REST route of the products that are late."""

from typing import Annotated, Final

from fastapi import Query

from batuta.conductor.database.views.late_views import LatePage, LateViews
from batuta.conductor.routes.common import invalid_cursor
from batuta.service.routing import ServiceRouter

MAX_ITEMS: Final = 1000


def late_router(views: LateViews) -> ServiceRouter:
    """Return the route."""
    router = ServiceRouter(prefix="/late", tags=["observations"])

    @router.get("")
    def late(
        product: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_ITEMS)] = 100,
        cursor: str | None = None,
    ) -> LatePage:
        """What was due and is not available; that first which was due first."""
        try:
            return views.page(product, limit, cursor)
        except (ValueError, TypeError) as exc:
            raise invalid_cursor(cursor) from exc

    return router
