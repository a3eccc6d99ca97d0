"""What every service answers: its health, its metrics, its refusals as problem details."""

from http import HTTPStatus

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter
from pydantic import BaseModel

from batuta.service.app import AppConfig, create_app
from batuta.service.problems import ProblemError


class RequestBody(BaseModel):
    product: str
    count: int


def make_app(token: str | None = None, *, healthy: bool = True) -> FastAPI:
    registry = CollectorRegistry()
    Counter("things", "Things", registry=registry).inc(3)
    app = create_app(
        AppConfig(
            name="thing",
            description="A thing.",
            token=token,
            checks=lambda: {"nats": healthy, "database": True},
            registry=registry,
        )
    )

    @app.post("/things")
    def take(asked: RequestBody) -> RequestBody:
        return asked

    @app.get("/busy")
    def busy() -> None:
        raise ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS, "full: 4 run", {"Retry-After": "2"}, known=["LC"]
        )

    @app.get("/surprise")
    def surprise() -> None:
        raise RuntimeError("nobody thought of this")

    return app


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://thing")


@pytest.mark.parametrize(("healthy", "status"), [(True, "ok"), (False, "degraded")])
async def test_health_names_what_is_unhealthy(healthy: bool, status: str) -> None:
    async with client_of(make_app(healthy=healthy)) as client:
        body = (await client.get("/health")).json()
    assert body["status"] == status
    assert body["checks"] == {"nats": healthy, "database": True}


async def test_metrics_are_in_the_text_format() -> None:
    async with client_of(make_app()) as client:
        answer = await client.get("/metrics")
    assert "things_total 3.0" in answer.text
    assert answer.headers["content-type"].startswith("text/plain")


async def test_the_interface_documents_itself() -> None:
    async with client_of(make_app()) as client:
        assert (await client.get("/docs")).status_code == 200
        assert "/things" in (await client.get("/openapi.json")).json()["paths"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "detail"),
    [
        ("GET", "/busy", None, 429, "full: 4 run"),
        ("GET", "/nothing", None, 404, "GET /nothing: Not Found"),
        ("PUT", "/things", None, 405, "PUT /things: Method Not Allowed"),
        ("POST", "/things", {}, 422, "product: missing; count: missing"),
        ("POST", "/things", {"product": "A", "count": "x"}, 422, "count: Input should be a valid"),
        ("GET", "/surprise", None, 500, "GET /surprise: "),
    ],
)
async def test_every_error_is_a_problem_detail(
    method: str, path: str, body: object, status: int, detail: str
) -> None:
    async with client_of(make_app()) as client:
        answer = await client.request(method, path, json=body)
    problem = answer.json()
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["title"] == HTTPStatus(status).phrase
    assert detail in problem["detail"]
    assert "\n" not in problem["detail"]


async def test_a_problem_carries_its_headers_and_members() -> None:
    async with client_of(make_app()) as client:
        answer = await client.get("/busy")
    assert answer.headers["retry-after"] == "2"
    assert answer.json()["known"] == ["LC"]


@pytest.mark.parametrize("sent", [None, "Bearer wrong", "Basic secret", "secret", "Bearer sécret"])
async def test_a_missing_or_wrong_token_is_refused(sent: str | None) -> None:
    headers = [(b"Authorization", sent.encode())] if sent else []
    async with client_of(make_app(token="secret")) as client:  # noqa: S106  a test's
        for path in ("/things", "/metrics", "/docs", "/openapi.json", "/health/x"):
            answer = await client.get(path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        assert (await client.get("/health")).status_code == 200


async def test_the_right_token_is_accepted() -> None:
    async with client_of(make_app(token="secret")) as client:  # noqa: S106  a test's
        answer = await client.get("/metrics", headers={"Authorization": "Bearer secret"})
    assert answer.status_code == 200
