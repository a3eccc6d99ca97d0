"""Errors over REST as problem details (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.routing import Match, Route

from batuta.errors import BatutaError, shortened
from batuta.validation import statement_of

PROBLEM_JSON: Final = "application/problem+json"
ANSWER_POLICY: Final = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""Whatever an answer holds, a browser runs nothing of it in the origin of its service."""
SAFE_HEADERS: Final = {
    "Content-Security-Policy": ANSWER_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
"""Of every answer that does not say otherwise."""

_SHOWN_CHARACTERS: Final = 1000
"""Of what was given: a body that is not JSON is given as a whole."""

_PROBLEM: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "one line"},
    },
}


def _declared(description: str) -> dict[str, Any]:
    return {"description": description, "content": {PROBLEM_JSON: {"schema": _PROBLEM}}}


class ProblemError(BatutaError):
    """A request that cannot be fulfilled; answered as problem details.

    Parameters
    ----------
    status : HTTPStatus
        The HTTP status.
    detail : str
        One line: what was given, and what is accepted.
    headers : mapping, optional
        Headers of the answer, such as ``Retry-After``.
    members : Any
        More members of the problem, such as ``known=[...]``.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers
        self.members = members


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every error of `app` as problem details."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_unexpected_error)


def problem_response(
    status: HTTPStatus,
    detail: str,
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> JSONResponse:
    """Build the response for `detail` with `status`."""
    body = {"type": "about:blank", "title": status.phrase, "status": status.value}
    return JSONResponse(
        {**body, "detail": detail, **(members or {})},
        status_code=status.value,
        headers={**SAFE_HEADERS, **(headers or {})},
        media_type=PROBLEM_JSON,
    )


def problem_responses(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route, for its OpenAPI: the problems that it may answer with."""
    return {status.value: _declared(status.phrase) for status in statuses}


ANY_PROBLEM: Final[dict[int | str, dict[str, Any]]] = {
    **problem_responses(
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
    "default": _declared("Another problem"),
}
"""The problems that every route of every service may answer with."""


def path_of(request: HTTPConnection) -> str:
    """Return the path of a request, percent-encoded, so that it can be shown anywhere.

    It is that of the request line. ``request.url`` would be built from the ``Host`` header too,
    which may contain anything, a path included.
    """
    return quote(request.scope["path"], safe="/:+,;=@!$&'()*~")


async def _on_problem(_request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, ProblemError)  # noqa: S101  the type that this handler is for
    return problem_response(exc.status, exc.detail, exc.headers, exc.members)


async def _on_http_exception(request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, HTTPException)  # noqa: S101  the type that this handler is for
    status = HTTPStatus(exc.status_code)
    detail = f"{request.method} {path_of(request)}: {exc.detail}"
    headers = dict(exc.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(_allowed_methods(request)))
    return problem_response(status, detail, headers)


def _allowed_methods(request: Request) -> set[str]:
    """Return what can be asked of a path, by all of its routes (RFC 9110, 10.2.1).

    Starlette tells of the first route alone.
    """
    methods: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    return methods


async def _on_invalid_request(_request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, RequestValidationError)  # noqa: S101  the type that this handler is for
    lines = [f"{_location(error['loc'])}: {_reason(error)}" for error in exc.errors()]
    return problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(lines))


async def _on_disconnect(_request: Request, _exc: Exception) -> JSONResponse:
    # Nobody reads it: but that a client goes away is no defect, to be logged with a traceback.
    return problem_response(HTTPStatus.BAD_REQUEST, "body: ends before its end")


async def _on_unexpected_error(request: Request, exc: Exception) -> JSONResponse:
    # The server raises it again after this answer, so that the log has the traceback.
    detail = f"{request.method} {path_of(request)}: {type(exc).__name__}, see the service's log"
    return problem_response(HTTPStatus.INTERNAL_SERVER_ERROR, detail)


def _location(location: tuple[Any, ...]) -> str:
    return ".".join(str(step) for step in location if step != "body") or "body"


def _reason(error: Mapping[str, Any]) -> str:
    if error["type"] == "missing":
        return "missing"
    return (
        f"{statement_of(error)} (given: {shortened(repr(error.get('input')), _SHOWN_CHARACTERS)})"
    )
