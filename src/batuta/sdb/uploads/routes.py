"""Uploads over REST, by the tus protocol 1.0 with what we add to it: lists, states, quicklooks."""

import re
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any, Final

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from batuta.quicklook import MAX_GIVEN_BYTES
from batuta.sdb.fields import refuse
from batuta.sdb.imports import CLIENT_CLOSED_REQUEST
from batuta.sdb.request_body import RequestBody, announced_bytes, read_whole, require_type
from batuta.sdb.routes import RouteOfBodies
from batuta.sdb.store import StoreError
from batuta.sdb.uploads import protocol
from batuta.sdb.uploads.appending import ChecksumError, Part
from batuta.sdb.uploads.records import UploadRecord, UploadState
from batuta.sdb.uploads.uploads import Uploads
from batuta.service.access import PROVED_OPERATOR
from batuta.service.pagination import Page
from batuta.service.problems import (
    PROBLEM_JSON,
    ProblemError,
    problem_responses,
)
from batuta.service.routing import ServiceRouter

COLLECTION: Final = "/uploads"
ONE: Final = "/uploads/{upload_id}"
CHECKSUM_MISMATCH: Final = 460

_ID: Final = re.compile(r"[0-9a-f]{32}")
_TUS: Final = {protocol.TUS_RESUMABLE: protocol.VERSION}
_NOT_THERE: Final = problem_responses(HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_REFUSED: Final = problem_responses(
    HTTPStatus.CONFLICT,
    HTTPStatus.PRECONDITION_FAILED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.LOCKED,
    HTTPStatus.INSUFFICIENT_STORAGE,
)
_MISMATCH: Final[dict[int | str, dict[str, Any]]] = {
    CHECKSUM_MISMATCH: {
        **problem_responses(HTTPStatus.CONFLICT)[HTTPStatus.CONFLICT],
        "description": "Checksum Mismatch",
    }
}


def upload_router(uploads: Uploads, base_url: str) -> ServiceRouter:
    """Route uploads; `base_url` is where others reach the sdb."""
    router = ServiceRouter(tags=["uploads"], route_class=_TusRoute)

    @router.options(COLLECTION, status_code=HTTPStatus.NO_CONTENT)
    async def options(_request: Request) -> Response:
        """Return the version of tus and the extensions that are supported."""
        return _no_content(
            {
                "Tus-Version": protocol.VERSION,
                "Tus-Extension": protocol.EXTENSIONS,
                "Tus-Max-Size": str(uploads.max_bytes),
                "Tus-Checksum-Algorithm": ",".join(protocol.ALGORITHMS),
            }
        )

    @router.post(
        COLLECTION,
        status_code=HTTPStatus.CREATED,
        response_class=Response,
        responses=_REFUSED,
        openapi_extra=_described(
            _header(protocol.LENGTH, _BYTES), _header(protocol.METADATA, _TEXT)
        ),
    )
    async def create(request: Request) -> Response:
        """Create an upload, whose `Upload-Metadata` has the fields of an import."""
        protocol.check_version(request.headers)
        if announced_bytes(request) or "transfer-encoding" in request.headers:
            refuse("body: given (accepted: none; the upload is sent by PATCH)")
        length = protocol.read_number(request.headers, protocol.LENGTH)
        fields = protocol.read_metadata(request.headers)
        record = await uploads.create(_owner(request), length, fields)
        headers = {"Location": f"{base_url.rstrip('/')}{COLLECTION}/{record.id}"}
        return Response(status_code=HTTPStatus.CREATED, headers={**headers, **_progress(record)})

    @router.get(
        COLLECTION,
        response_model=Page[UploadState],
        openapi_extra={
            "parameters": [
                {"name": "fingerprint", "in": "query", "required": False, "schema": _DIGEST}
            ]
        },
    )
    async def list_uploads(request: Request) -> Response:
        """List the uploads of the token that asks, the newest first, without their records."""
        fingerprint = request.query_params.get("fingerprint")
        found = await uploads.find_all(_owner(request), fingerprint)
        return _json(Page[UploadState](items=found, next=None).model_dump_json())

    _add_states(router, uploads)
    _add_changes(router, uploads, base_url)
    return router


def _add_states(router: ServiceRouter, uploads: Uploads) -> None:
    """Add the routes that tell how far an upload is."""

    @router.get(ONE, response_model=UploadState, responses=_NOT_THERE, openapi_extra=_OF_ONE)
    async def show(request: Request) -> Response:
        """Return how far an upload is, and what it was imported as.

        Who asks interrupts a request that adds to it. One that is complete, and was not imported
        as the sdb was killed, or its database did not answer, is imported now.
        """
        state = await uploads.state(_owner(request), _id_of(request))
        return _json(state.model_dump_json())

    @router.head(
        ONE,
        responses={**_NOT_THERE, **_REFUSED},
        response_class=Response,
        openapi_extra=_OF_ONE,
    )
    async def offset(request: Request) -> Response:
        """Return the `Upload-Offset` at which to resume an upload; as GET, for clients of tus."""
        protocol.check_version(request.headers)
        record = await uploads.find(_owner(request), _id_of(request))
        headers = {"Cache-Control": "no-store", protocol.LENGTH: str(record.length)}
        return Response(status_code=HTTPStatus.OK, headers={**headers, **_progress(record)})


def _add_changes(router: ServiceRouter, uploads: Uploads, base_url: str) -> None:
    """Add the routes that append to an upload, and end it."""

    @router.patch(
        ONE,
        status_code=HTTPStatus.NO_CONTENT,
        responses={**_NOT_THERE, **_REFUSED, **_MISMATCH},
        openapi_extra={**_OF_ONE_AND_OFFSET, **_body(protocol.CONTENT_TYPE)},
    )
    async def append(request: Request) -> Response:
        """Append what begins at `Upload-Offset`; at the end, the file is imported.

        `Location` then is that of the version that it has made, or that it repeats.
        """
        body = RequestBody(request)
        try:
            protocol.check_version(request.headers)
            part = _part(request)
            record = await uploads.append(_owner(request), _id_of(request), part, body)
        except ChecksumError as exc:
            return _mismatch(exc)
        except ClientDisconnect:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        except (ProblemError, StoreError):
            if not body.is_cut_short:
                await body.drain()
            raise
        return _no_content({**_progress(record), **_location(record, base_url)})

    @router.put(
        f"{ONE}/quicklook",
        status_code=HTTPStatus.NO_CONTENT,
        responses={**_NOT_THERE, **_REFUSED},
        openapi_extra={**_OF_ONE, **_body("image/*")},
    )
    async def give_quicklook(request: Request) -> Response:
        """Set the quicklook that is imported with the upload."""
        content = await read_whole(request, MAX_GIVEN_BYTES, "quicklook")
        await uploads.give_quicklook(_owner(request), _id_of(request), content)
        return _no_content()

    @router.delete(
        ONE,
        status_code=HTTPStatus.NO_CONTENT,
        responses={**_NOT_THERE, **_REFUSED},
        openapi_extra=_described(_PATH, _VERSION_HEADER),
    )
    async def terminate(request: Request) -> Response:
        """Delete an upload; what it was imported as stays."""
        protocol.check_version(request.headers)
        await uploads.delete(_owner(request), _id_of(request))
        return _no_content()


class _TusRoute(RouteOfBodies):
    """A route that names the version of tus in all that it answers."""

    async def answer(self, request: Request) -> Response:
        """Answer with the headers of tus."""
        try:
            response = await super().answer(request)
        except ProblemError as exc:
            exc.headers = {**_TUS, **(exc.headers or {})}
            raise
        response.headers.update(_TUS)
        return response


def _part(request: Request) -> Part:
    require_type(request, protocol.CONTENT_TYPE)
    start = protocol.read_number(request.headers, protocol.OFFSET)
    return Part(start, announced_bytes(request), protocol.read_checksum(request.headers))


def _owner(request: Request) -> str | None:
    """Return the name of the token; of the shared one, and without any, there is none."""
    name: str | None = request.scope.get("state", {}).get(PROVED_OPERATOR)
    return name


def _id_of(request: Request) -> str:
    upload_id = str(request.path_params["upload_id"])
    if not _ID.fullmatch(upload_id):
        raise ProblemError(HTTPStatus.NOT_FOUND, f"upload {upload_id[:80]!r}: not found")
    return upload_id


def _progress(record: UploadRecord) -> dict[str, str]:
    return {
        protocol.OFFSET: str(record.offset),
        protocol.EXPIRES: format_datetime(record.expires, usegmt=True),
    }


def _location(record: UploadRecord, base_url: str) -> dict[str, str]:
    if record.version is None:
        return {}
    path = f"/products/{record.product}/{record.obs_id}/versions/{record.version}"
    return {"Location": base_url.rstrip("/") + path}


def _no_content(headers: dict[str, str] | None = None) -> Response:
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)


def _json(content: str) -> Response:
    return Response(content, media_type="application/json", headers={"Cache-Control": "no-store"})


def _mismatch(exc: ChecksumError) -> Response:
    detail = f"{protocol.CHECKSUM}: the body has another {exc}; nothing of it was kept"
    body = {"type": "about:blank", "title": "Checksum Mismatch", "status": CHECKSUM_MISMATCH}
    return JSONResponse(
        {**body, "detail": detail}, status_code=CHECKSUM_MISMATCH, media_type=PROBLEM_JSON
    )


def _header(name: str, schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": required, "schema": schema}


def _described(*parameters: dict[str, Any]) -> dict[str, Any]:
    return {"parameters": [*parameters]}


def _body(media_type: str) -> dict[str, Any]:
    schema = {"type": "string", "format": "binary"}
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}


_BYTES: Final = {"type": "integer", "minimum": 0}
_TEXT: Final = {
    "type": "string",
    "description": f"Names ({', '.join(protocol.KNOWN)}) and values in Base64",
}
_DIGEST: Final = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_PATH: Final = {
    "name": "upload_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}
_VERSION_HEADER: Final = _header(protocol.TUS_RESUMABLE, {"const": protocol.VERSION})
_OF_ONE: Final = _described(_PATH)
_OF_ONE_AND_OFFSET: Final = _described(
    _PATH,
    _VERSION_HEADER,
    _header(protocol.OFFSET, _BYTES),
    _header(protocol.CHECKSUM, {"type": "string"}, required=False),
)
