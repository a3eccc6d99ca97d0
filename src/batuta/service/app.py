"""The web application that every service builds on: health, metrics, tokens, problems."""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from batuta import __version__
from batuta.service.problems import install_problem_handlers, problem_response

HEALTH: Final = "/health"
"""Answers without a token, for supervisors."""


@dataclass(frozen=True, kw_only=True)
class AppConfig:
    """The definition of a service's application.

    Parameters
    ----------
    name, description : str
        Shown in ``/health`` and ``/docs``.
    token : str or None
        Required as ``Authorization: Bearer`` if set.
    checks : callable
        Health of what the service depends on, by name, for ``/health``; True is healthy.
    registry : CollectorRegistry
        The metrics of ``/metrics``.
    root_path : str
        A prefix under which its paths answer too.
    """

    name: str
    description: str
    token: str | None = None
    checks: Callable[[], Mapping[str, bool]] = dict
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    root_path: str = ""


def create_app(config: AppConfig) -> FastAPI:
    """Create an application with ``/health``, ``/metrics``, ``/docs`` and problem details."""
    app = FastAPI(
        title=f"Batuta: {config.name}", description=config.description, version=__version__
    )
    install_problem_handlers(app)
    if config.token is not None:
        _require_token(app, config.token, {HEALTH, config.root_path + HEALTH})

    @app.get(HEALTH, tags=["service"])
    def health() -> dict[str, Any]:
        """Return whether the service, and what it depends on, is healthy."""
        checks = config.checks()
        return {
            "service": config.name,
            "version": __version__,
            "status": "ok" if all(checks.values()) else "degraded",
            "checks": dict(checks),
        }

    @app.get("/metrics", tags=["service"])
    def metrics() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(generate_latest(config.registry), media_type=CONTENT_TYPE_LATEST)

    return app


def _require_token(app: FastAPI, token: str, open_paths: AbstractSet[str]) -> None:
    expected = f"Bearer {token}".encode()

    # Compared in constant time: how long it takes must not reveal how much of a guess is right.
    @app.middleware("http")
    async def check(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        given = request.headers.get("authorization", "").encode()
        if request.url.path in open_paths or hmac.compare_digest(given, expected):
            return await call_next(request)
        return problem_response(
            HTTPStatus.UNAUTHORIZED,
            "missing or wrong token (accepted: Authorization: Bearer TOKEN; see BATUTA_TOKEN)",
            {"WWW-Authenticate": "Bearer"},
        )
