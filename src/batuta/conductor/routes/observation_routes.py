"""REST routes of observations."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Query

from batuta.conductor.database.lists import ObservationOrder
from batuta.conductor.database.views.observations import (
    Following,
    ObservationDetail,
    ObservationView,
)
from batuta.conductor.routes.common import (
    UNKNOWN,
    Limit,
    StageFilter,
    invalid_cursor,
    stage_of,
    unknown_product,
)
from batuta.conductor.routes.components import Components
from batuta.service.pagination import Page
from batuta.service.problems import ProblemError
from batuta.service.routing import ServiceRouter


def observation_router(components: Components) -> ServiceRouter:
    """Return the routes."""
    router = ServiceRouter(prefix="/observations", tags=["observations"])

    @router.get("")
    def observations(
        limit: Limit = 100,
        cursor: str | None = None,
        order: ObservationOrder = ObservationOrder.OBS_ID,
        stage: StageFilter = None,
    ) -> Page[ObservationView]:
        """Observations with available products; with `stage`, any of which was told to be so."""
        try:
            return components.views.observations(limit, cursor, order, stage_of(stage))
        except ValueError as exc:
            raise invalid_cursor(cursor) from exc

    @router.get("/{obs_id}", responses=UNKNOWN)
    def observation(obs_id: str) -> ObservationDetail:
        """One observation: its products, made, being made, or missing."""
        found = components.views.observation(obs_id)
        if found is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, f"obs_id {obs_id!r}: not found")
        return found

    @router.get("/{obs_id}/following/{product}", responses=UNKNOWN)
    def following(
        obs_id: str, product: str, version: Annotated[int, Query(ge=0, lt=2**31)] = 0
    ) -> Following:
        """What follows from a version of a product: what is open, made, and failed."""
        with components.events.one_moment():
            if not components.graph.knows(product):
                raise unknown_product(components.graph, product)
            return components.views.following(product, obs_id, version)

    return router
