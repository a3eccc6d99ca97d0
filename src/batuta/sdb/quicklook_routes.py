"""Quicklooks over REST."""

from http import HTTPStatus
from typing import Any, Final

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from batuta.sdb.catalogue import Catalogue
from batuta.sdb.exports import etag_matches
from batuta.sdb.quicklooks import RETRY_AFTER_S, Quicklooks
from batuta.sdb.records import QuicklookState, StoredProduct
from batuta.sdb.routes import ONE, VERSION, ObsId, ProductName, Version
from batuta.service.problems import ANSWER_POLICY, ProblemError, problem_responses
from batuta.service.routing import ServiceRouter

_A_YEAR_S: Final = 31_536_000
_SUFFIXES: Final = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
_PICTURE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {kind: {} for kind in _SUFFIXES}, "description": "The picture"},
    202: {"model": QuicklookState, "description": "It is being drawn: ask again"},
    304: {"description": "If-None-Match names its ETag"},
}
_NOT_FOUND: Final = problem_responses(HTTPStatus.NOT_FOUND)
_NOT_GIVEN: Final = problem_responses(HTTPStatus.NOT_FOUND, HTTPStatus.GONE)


def quicklook_router(catalogue: Catalogue, quicklooks: Quicklooks) -> ServiceRouter:
    """Routes for quicklooks; of a version that has none, it is drawn when it is asked for."""
    router = ServiceRouter(tags=["quicklooks"])

    async def find(product: str, obs_id: str, version: int | None = None) -> StoredProduct:
        return await run_in_threadpool(catalogue.find, product, obs_id, version)

    @router.get(f"{ONE}/quicklook", responses=_PICTURE | _NOT_FOUND, response_class=Response)
    async def newest_quicklook(request: Request, product: ProductName, obs_id: ObsId) -> Response:
        """Return a picture of the newest version."""
        stored = await find(product, obs_id)
        return await _answer(request, stored, quicklooks, "private, no-cache")

    @router.get(f"{VERSION}/quicklook", responses=_PICTURE | _NOT_GIVEN, response_class=Response)
    async def quicklook(
        request: Request, product: ProductName, obs_id: ObsId, version: Version
    ) -> Response:
        """Return a picture of one version."""
        stored = await find(product, obs_id, version)
        lasting = f"private, max-age={_A_YEAR_S}, immutable"
        return await _answer(request, stored, quicklooks, lasting)

    @router.get(f"{ONE}/quicklook/state", responses=_NOT_FOUND)
    async def newest_quicklook_state(product: ProductName, obs_id: ObsId) -> QuicklookState:
        """Return whether the newest version has a quicklook, and why it has none."""
        return await quicklooks.state(await find(product, obs_id))

    @router.get(f"{VERSION}/quicklook/state", responses=_NOT_GIVEN)
    async def quicklook_state(
        product: ProductName, obs_id: ObsId, version: Version
    ) -> QuicklookState:
        """Return whether one version has a quicklook, and why it has none."""
        return await quicklooks.state(await find(product, obs_id, version))

    return router


async def _answer(
    request: Request, stored: StoredProduct, quicklooks: Quicklooks, caching: str
) -> Response:
    state = await quicklooks.state(stored)
    if state.state == "drawing":
        headers = {"Retry-After": str(RETRY_AFTER_S), "Cache-Control": "no-store"}
        body = state.model_dump(mode="json")
        return JSONResponse(body, status_code=HTTPStatus.ACCEPTED, headers=headers)
    if state.state != "ready":
        raise ProblemError(
            HTTPStatus.NOT_FOUND,
            f"{stored.product} of {stored.obs_id}, version {stored.version}, has no quicklook: "
            f"{state.reason}",
            {"Cache-Control": "no-store"},
        )
    headers = _headers(stored, state) | {"Cache-Control": caching}
    if etag_matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(await quicklooks.read(state), headers=headers, media_type=state.media_type)


def _headers(stored: StoredProduct, state: QuicklookState) -> dict[str, str]:
    suffix = _SUFFIXES.get(state.media_type or "", "")
    # Its names are letters, digits and a few signs that need no quoting.
    name = f"{stored.product}-{stored.obs_id}-v{stored.version}{suffix}"
    return {
        "ETag": f'"{state.sha256}"',
        "Content-Disposition": f'inline; filename="{name}"',
        "Content-Security-Policy": ANSWER_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Batuta-Version": str(stored.version),
        "Batuta-Quicklook": state.origin or "",
    }
