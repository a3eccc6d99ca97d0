"""The web application that every service builds on: health, metrics, tokens, problems."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from threading import Lock
from typing import Any, Final

from fastapi import Depends, FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.routing import Route

from batuta import __version__
from batuta.service.access import AccessControl, AccessRules
from batuta.service.access_tokens import AccessTokens, Grant
from batuta.service.database import UNAVAILABLE, unavailable_reason
from batuta.service.direct_routes import DirectRoutes
from batuta.service.guard import Guard
from batuta.service.interface_page import PAGE_POLICY, interface_page
from batuta.service.problems import ANY_PROBLEM, install_problem_handlers, path_of, problem_response
from batuta.service.query_keys import refuse_unknown_keys
from batuta.service.route_scopes import EVERY_SERVICE, RouteTable, under
from batuta.tls import ServerCertificate

LOG: Final = logging.getLogger(__name__)

RETRY_AFTER_S: Final = 2
HEALTH: Final = "/health"
CERTIFICATE: Final = "certificate"
"""Of the state of an application: the `ServerCertificate` that its service shows, if any."""


@dataclass(frozen=True, kw_only=True)
class AppConfig:
    """The definition of a service's application.

    Parameters
    ----------
    name, description : str
        Shown in ``/health`` and ``/docs``.
    tokens : AccessTokens
        What callers show as ``Authorization: Bearer``; by default, nothing is required of them.
    routes : mapping
        Which scope each of its routes needs, besides those that every service has.
    checks : callable
        Health of what the service depends on, by name, for ``/health``: True is healthy; a text
        says what is wrong.
    registry : CollectorRegistry
        The metrics of ``/metrics``.
    root_path : str
        A prefix under which its paths answer too.
    session_of : callable, optional
        Returns what the sender of a ``Cookie`` header may do, if it names one who has signed in.
    """

    name: str
    description: str
    tokens: AccessTokens = field(default_factory=AccessTokens)
    routes: RouteTable = field(default_factory=dict)
    checks: Callable[[], Mapping[str, bool | str]] = dict
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    root_path: str = ""
    session_of: Callable[[str], Grant | None] | None = None

    @property
    def access_rules(self) -> AccessRules:
        """Who may call."""
        routes = {**EVERY_SERVICE, **self.routes}
        return AccessRules(
            tokens=self.tokens,
            routes={**routes, **under(self.root_path, routes)},
            session_of=self.session_of,
        )


def create_app(config: AppConfig) -> FastAPI:
    """Create an application with ``/health``, ``/metrics``, ``/docs`` and problem details."""
    app = FastAPI(
        title=f"Batuta: {config.name}",
        description=config.description,
        version=__version__,
        docs_url=None,
        redoc_url=None,
        responses=ANY_PROBLEM,
        dependencies=[Depends(refuse_unknown_keys)],
    )
    _describe_in_a_thread(app)
    install_problem_handlers(app)
    for unavailable in UNAVAILABLE:
        app.add_exception_handler(unavailable, _on_unavailable_database)
    app.add_middleware(DirectRoutes, service=app)
    app.add_middleware(AccessControl, rules=config.access_rules)
    app.add_middleware(Guard)

    @app.get(HEALTH, tags=["service"])
    def health() -> dict[str, Any]:
        """Return whether the service, and what it depends on, is healthy."""
        found = {**config.checks(), **config.tokens.checks(), **_tls_check(app)}
        checks = {name: state is True for name, state in found.items()}
        return {
            "service": config.name,
            "version": __version__,
            "status": "ok" if all(checks.values()) else "degraded",
            "checks": checks,
            "problems": {name: state for name, state in found.items() if isinstance(state, str)},
        }

    @app.get("/metrics", tags=["service"], response_class=PlainTextResponse)
    def metrics() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(generate_latest(config.registry), media_type=CONTENT_TYPE_LATEST)

    return app


def _tls_check(app: FastAPI) -> dict[str, bool | str]:
    certificate: ServerCertificate | None = getattr(app.state, CERTIFICATE, None)
    return {} if certificate is None else {"tls": certificate.problem or True}


def _describe_in_a_thread(app: FastAPI) -> None:
    """Serve the OpenAPI of `app`, for programs and as a page, from a thread.

    FastAPI makes it, at the first request, in the event loop: half a second for the conductor, in
    which nothing else would be decided or answered.
    """
    one_at_a_time = Lock()

    def describe(_request: Request) -> Response:
        with one_at_a_time:
            return JSONResponse(app.openapi())

    def show(_request: Request) -> Response:
        with one_at_a_time:
            interface = app.openapi()
        headers = {"Content-Security-Policy": PAGE_POLICY}
        return HTMLResponse(interface_page(interface), headers=headers)

    url = app.openapi_url
    assert url is not None  # noqa: S101  FastAPI's default
    routes = app.router.routes
    routes[:] = [each for each in routes if not (isinstance(each, Route) and each.path == url)]
    app.add_route(url, describe, include_in_schema=False)
    app.add_route("/docs", show, include_in_schema=False)


async def _on_unavailable_database(request: Request, exc: Exception) -> Response:
    reason = unavailable_reason(exc)
    LOG.error("%s %s: database: %s", request.method, path_of(request), reason)
    return problem_response(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"database unavailable: {reason}",
        {"Retry-After": str(RETRY_AFTER_S)},
    )
