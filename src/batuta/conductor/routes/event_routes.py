"""REST routes of what became of events."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Depends, Query

from batuta.conductor.database.views.event_views import EventDetail, EventView, EventViews
from batuta.conductor.decisions.outcomes import Outcome
from batuta.conductor.routes.common import invalid_cursor
from batuta.service.instants import Instant
from batuta.service.pagination import Page
from batuta.service.problems import ProblemError, problem_responses
from batuta.service.routing import ServiceRouter

MAX_ITEMS: Final = 1000

Text = Annotated[str | None, Query(max_length=200)]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """What a query selects events by."""

    outcome: Outcome | None = None
    product: Text = None
    obs_id: Text = None
    source: Annotated[
        str | None, Query(max_length=200, description="What follows `data.` in its subject.")
    ] = None
    since: Instant | None = None
    until: Instant | None = None

    def filters(self) -> dict[str, str | None]:
        """Return what columns are to be."""
        return {
            "outcome": self.outcome,
            "product": self.product,
            "obs_id": self.obs_id,
            "source": self.source,
        }


def event_router(views: EventViews) -> ServiceRouter:
    """Return the routes."""
    router = ServiceRouter(prefix="/events", tags=["events"])

    @router.get("")
    def events(
        query: Annotated[EventQuery, Depends()],
        limit: Annotated[int, Query(ge=1, le=MAX_ITEMS)] = 100,
        cursor: str | None = None,
    ) -> Page[EventView]:
        """What was received on ``data.*``, and how each has ended; the newest first."""
        try:
            return views.page(query.filters(), query.since, query.until, limit, cursor)
        except ValueError as exc:
            raise invalid_cursor(cursor) from exc

    @router.get("/{event_id:path}", responses=problem_responses(HTTPStatus.NOT_FOUND))
    def event(event_id: str) -> EventDetail:
        """One event by its id, with what it has caused, as that is now."""
        found = views.find(event_id)
        if found is None:
            raise ProblemError(
                HTTPStatus.NOT_FOUND,
                f"event {event_id!r:.400}: not found (never received, or dropped since: "
                "`events` of the conductor says how many are kept)",
            )
        return found

    return router
