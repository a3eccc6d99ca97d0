"""REST routes of the report of a span of time, and of the rates of the last hours."""

import asyncio
import time
from http import HTTPStatus
from typing import Annotated

from fastapi import Query

from batuta.conductor.database.views.rate_views import MAX_MINUTES, Rates, RateViews
from batuta.conductor.database.views.report_views import Report, ReportViews
from batuta.conductor.decisions.reports import span_of
from batuta.messaging import MessagingError
from batuta.messaging.dead_letters import DeadLetters
from batuta.service.instants import Instant
from batuta.service.problems import ProblemError
from batuta.service.routing import ServiceRouter


def report_router(reports: ReportViews, rates: RateViews, letters: DeadLetters) -> ServiceRouter:
    """Return the routes."""
    router = ServiceRouter(tags=["report"])

    @router.get("/report")
    async def report(
        begin: Annotated[
            Instant | None, Query(alias="from", description="12 h before the end, if not.")
        ] = None,
        end: Annotated[
            Instant | None, Query(alias="to", description="Excluded; now, if not given.")
        ] = None,
    ) -> Report:
        """What was made, late, failed and so on in a span of time, provider by provider."""
        now = time.time()
        try:
            span = span_of(
                None if begin is None else begin.timestamp(),
                None if end is None else end.timestamp(),
                now,
            )
        except ValueError as exc:
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, str(exc)) from exc
        found = await asyncio.to_thread(reports.report, span, now)
        try:
            number = await letters.count_between(found.begin, found.end)
        except MessagingError:
            # Its number is null, which says so: all else is known without NATS.
            return found
        return found.model_copy(update={"dead_letters": number})

    @router.get("/rates")
    def recent_rates(
        minutes: Annotated[int, Query(ge=1, le=MAX_MINUTES)] = MAX_MINUTES,
    ) -> Rates:
        """How many products were archived in each of the last minutes, and how long they took."""
        return rates.rates(minutes)

    return router
