"""Routes that show what the rules of retention would drop now, and drop it."""

from http import HTTPStatus
from typing import Protocol

from fastapi import FastAPI

from batuta.service.operator_requests import ByOperator
from batuta.service.operators import Operator
from batuta.service.problems import ProblemError, problem_responses
from batuta.service.record_archive import ArchiveError
from batuta.service.retention import PruneReport


class AppliesRules(Protocol):
    """What applies the rules of a service."""

    async def preview(self) -> PruneReport:
        """Return what would be dropped now."""

    async def apply(self, by: Operator | None = None) -> PruneReport:
        """Drop it, and return what was; raises `ArchiveError`. `by` is None for the daily sweep."""


def add_retention_routes(app: FastAPI, pruner: AppliesRules) -> None:
    """Add the routes of the retention of a service to `app`."""

    @app.get("/retention", tags=["retention"])
    async def preview() -> PruneReport:
        """What would be archived and dropped now, by which rules."""
        return await pruner.preview()

    @app.post(
        "/retention",
        tags=["retention"],
        responses=problem_responses(HTTPStatus.INSUFFICIENT_STORAGE),
    )
    async def apply(by: ByOperator) -> PruneReport:
        """Archive and drop what is finished and old now, rather than at the daily sweep."""
        try:
            return await pruner.apply(by)
        except ArchiveError as exc:
            raise ProblemError(HTTPStatus.INSUFFICIENT_STORAGE, str(exc)) from exc
