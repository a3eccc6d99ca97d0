"""REST routes of the graph in force, of its versions, and of changing it."""

import asyncio
from http import HTTPStatus
from typing import Annotated, Any, Final, Self

from fastapi import Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from batuta.conductor.database.graphs.graph_preview import GraphPreview
from batuta.conductor.database.graphs.graph_versions import (
    GraphVersion,
    GraphVersionDetail,
    GraphVersions,
    NotInForceError,
)
from batuta.conductor.graph_changer import GraphChanger
from batuta.conductor.routes.bulk_routes import Reason
from batuta.graph import Graph, GraphError
from batuta.service.client import ServiceError
from batuta.service.operator_requests import ByOperator
from batuta.service.pagination import Page
from batuta.service.problems import ProblemError, problem_responses
from batuta.service.routing import ServiceRouter
from batuta.work_classes import WorkClass

MAX_ITEMS: Final = 1000
_UNKNOWN: Final = problem_responses(HTTPStatus.NOT_FOUND)

Number = Annotated[int | None, Field(ge=1, lt=2**31)]


class GraphChoice(BaseModel):
    """A graph: its document, or the `version` that it was."""

    model_config = ConfigDict(extra="forbid")

    graph: dict[str, Any] | None = None
    version: Number = None

    @model_validator(mode="after")
    def _require_one(self) -> Self:
        if (self.graph is None) == (self.version is None):
            given = "neither" if self.graph is None else "both"
            raise ValueError(f"graph, version: {given} given (accepted: one of them)")
        return self


class PreviewOrder(GraphChoice):
    """A graph to preview, compared with `old`, which is by default the one in force."""

    old: dict[str, Any] | None = None


class GraphOrder(GraphChoice):
    """A graph to put in force.

    `class` is that of what it starts, by default that of its products. `instead_of` is the version
    that is expected to be in force.
    """

    note: Reason = None
    work_class: WorkClass | None = Field(None, alias="class")
    instead_of: Number = None


def graph_router(changer: GraphChanger) -> ServiceRouter:
    """Return the routes."""
    router = ServiceRouter(prefix="/graph", tags=["graph"])
    _add_versions(router, changer.versions)
    _add_changes(router, changer)
    return router


def _add_versions(router: ServiceRouter, versions: GraphVersions) -> None:
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
    def version(number: Annotated[int, Path(ge=1, lt=2**31)]) -> GraphVersionDetail:
        """One version of the graph, with its document."""
        return _find(versions, number)


def _add_changes(router: ServiceRouter, changer: GraphChanger) -> None:
    versions = changer.versions

    @router.post(
        "/versions",
        status_code=HTTPStatus.CREATED,
        responses=_UNKNOWN
        | problem_responses(HTTPStatus.CONFLICT)
        | {HTTPStatus.OK.value: {"model": GraphVersion, "description": "In force already."}},
    )
    async def apply(order: GraphOrder, by: ByOperator, response: Response) -> GraphVersion:
        """Put a graph in force, without a restart; what it starts follows at once."""
        chosen = await asyncio.to_thread(_chosen, versions, order)
        note = order.note
        if order.version is not None:
            note = note or f"back to version {order.version}"
        try:
            applied = await changer.apply(chosen, by, note, order.work_class, order.instead_of)
        except NotInForceError as exc:
            raise ProblemError(HTTPStatus.CONFLICT, str(exc)) from exc
        if not applied.is_new:
            response.status_code = HTTPStatus.OK
        response.headers["Location"] = f"/graph/versions/{applied.version.number}"
        return applied.version

    @router.post("/preview", responses=_UNKNOWN | problem_responses(HTTPStatus.BAD_GATEWAY))
    async def preview(order: PreviewOrder) -> GraphPreview:
        """What a graph would start, set aside, make stale or orphan now; it changes nothing."""
        chosen = await asyncio.to_thread(_chosen, versions, order)
        old = None
        if order.old is not None:
            old = await asyncio.to_thread(_parse, order.old, "old")
        try:
            return await changer.preview(chosen, old)
        except ServiceError as exc:
            raise ProblemError(HTTPStatus.BAD_GATEWAY, str(exc)) from exc


def _chosen(versions: GraphVersions, choice: GraphChoice) -> Graph:
    if choice.version is not None:
        found = _find(versions, choice.version)
        return _parse(found.graph, f"version {choice.version}")
    return _parse(choice.graph or {}, "graph")


def _parse(document: dict[str, Any], source: str) -> Graph:
    try:
        return Graph.parse(document, source)
    except GraphError as exc:
        # Every mistake at once; in `problems` each is a line of its own.
        problems = list(exc.problems)
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(problems), problems=problems
        ) from exc


def _find(versions: GraphVersions, number: int) -> GraphVersionDetail:
    found = versions.find(number) if 0 < number < 2**31 else None
    if found is None:
        newest = versions.current.number
        raise ProblemError(
            HTTPStatus.NOT_FOUND,
            f"version {number} of the graph: not found (accepted: 1 to {newest})",
        )
    return found
