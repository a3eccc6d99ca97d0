"""REST routes of the graph in force, and of its versions."""

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Query

from batuta.conductor.database.graph_versions import (
    GraphVersion,
    GraphVersionDetail,
    GraphVersions,
)
from batuta.service.pagination import Page
from batuta.service.problems import ProblemError, problem_responses

MAX_ITEMS: Final = 1000
_UNKNOWN: Final = problem_responses(HTTPStatus.NOT_FOUND)


def graph_router(versions: GraphVersions) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/graph", tags=["graph"])

    @router.get("")
    def graph() -> dict[str, object]:
        """The product graph in force, every key written out."""
        return dict(versions.current.graph.as_document())

    @router.get("/versions")
    def list_versions(
        limit: Annotated[int, Query(ge=1, le=MAX_ITEMS)] = 100,
        cursor: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
    ) -> Page[GraphVersion]:
        """The graphs that were put in force, the newest first: that one is."""
        return versions.page(limit, cursor)

    @router.get("/versions/{number}", responses=_UNKNOWN)
    def version(number: int) -> GraphVersionDetail:
        """One version of the graph, with its document."""
        found = versions.find(number) if 0 < number < 2**31 else None
        if found is None:
            newest = versions.current.number
            raise ProblemError(
                HTTPStatus.NOT_FOUND,
                f"version {number} of the graph: not found (accepted: 1 to {newest})",
            )
        return found

    return router
