"""Routes that show what the rules of retention would drop now, and drop it."""

from http import HTTPStatus
from typing import Protocol

from fastapi import APIRouter

from batuta.service.problems import ProblemError, problem_responses
from batuta.service.record_archive import ArchiveError
from batuta.service.retention import PruneReport


class AppliesRules(Protocol):
    """What applies the rules of a service."""

    async def preview(self) -> PruneReport:
        """Return what would be dropped now."""

    async def apply(self) -> PruneReport:
        """Drop it, and return what was; raises `ArchiveError`."""


def retention_router(pruner: AppliesRules) -> APIRouter:
    """Routes of the retention of a service."""
    router = APIRouter(tags=["retention"])

    @router.get("/retention")
    async def preview() -> PruneReport:
        """What would be archived and dropped now, by which rules."""
        return await pruner.preview()

    @router.post("/retention", responses=problem_responses(HTTPStatus.INSUFFICIENT_STORAGE))
    async def apply() -> PruneReport:
        """Archive and drop what is finished and old now, rather than at the daily sweep."""
        try:
            return await pruner.apply()
        except ArchiveError as exc:
            raise ProblemError(HTTPStatus.INSUFFICIENT_STORAGE, str(exc)) from exc

    return router
