"""REST route of what providers are still to be told to stop."""

from datetime import datetime

from pydantic import BaseModel

from batuta.conductor.database.stops import StopStore
from batuta.conductor.decisions.stops import Stop
from batuta.messaging.processings import instant_of
from batuta.service.routing import ServiceRouter


class StopView(BaseModel):
    """A processing that was stopped, and whose provider has not answered.

    It was told `tries` times, and is told next at `next_try`; `problem` is that of the last try,
    None before the first.
    """

    processing: str
    product: str
    obs_id: str
    provider: str
    attempt: int
    since: datetime
    tries: int
    next_try: datetime
    problem: str | None


class Stops(BaseModel):
    """All of them, the oldest first."""

    items: list[StopView]


def stop_router(stops: StopStore) -> ServiceRouter:
    """Return the route."""
    router = ServiceRouter(prefix="/stops", tags=["processings"])

    @router.get("")
    def all_stops() -> Stops:
        """What was stopped, and is still to be stopped at its provider."""
        return Stops(items=[_view(each) for each in stops.all()])

    return router


def _view(stop: Stop) -> StopView:
    return StopView(
        processing=stop.id,
        product=stop.product,
        obs_id=stop.obs_id,
        provider=stop.provider,
        attempt=stop.attempt,
        since=instant_of(stop.since),
        tries=stop.tries,
        next_try=instant_of(stop.next_at),
        problem=stop.problem,
    )
