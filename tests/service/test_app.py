"""What every service answers: its health, its metrics, its refusals as problem details."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated

import httpx
import pytest
import sqlalchemy as sa
from fastapi import APIRouter, Depends, FastAPI
from prometheus_client import CollectorRegistry, Counter
from pydantic import BaseModel

from batuta.service.access_tokens import AccessTokens
from batuta.service.app import AppConfig, create_app
from batuta.service.guard import MAX_BODY_BYTES
from batuta.service.problems import ProblemError
from tests.support.interfaces import problem_statuses

TOKEN = "a-token-of-a-test"  # noqa: S105  of no service


def at_most(limit: int = 10, cursor: int = 0) -> int:
    return limit + cursor


Limit = Annotated[int, Depends(at_most)]
UNAVAILABLE_ERRORS: dict[str, Exception] = {
    "locked": sa.exc.OperationalError("SELECT 1", {}, Exception("database is locked")),
    "exhausted": sa.exc.TimeoutError("QueuePool limit of size 5 overflow 45 reached"),
}


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
            tokens=AccessTokens(token),
            checks=lambda: {"nats": healthy, "database": True, "store": healthy or "it is full"},
            registry=registry,
        )
    )

    @app.post("/things")
    def take(asked: RequestBody) -> RequestBody:
        return asked

    @app.get("/things")
    def give() -> list[str]:
        return []

    @app.get("/busy")
    def busy() -> None:
        raise ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS, "full: 4 run", {"Retry-After": "2"}, known=["LC"]
        )

    @app.get("/database/{kind}")
    def database(kind: str) -> None:
        raise UNAVAILABLE_ERRORS[kind]

    routes = APIRouter(prefix="/lists")

    @routes.get("/{kind:path}")
    def things(kind: str, state: str | None = None, limit: Limit = 10) -> str:
        return f"{kind} {state} {limit}"

    app.include_router(routes)

    @app.get("/surprise")
    def surprise() -> None:
        raise RuntimeError("nobody thought of this")

    return app


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:8000")


@pytest.mark.parametrize(("healthy", "status"), [(True, "ok"), (False, "degraded")])
async def test_health_names_what_is_unhealthy(healthy: bool, status: str) -> None:
    async with client_of(make_app(healthy=healthy)) as client:
        body = (await client.get("/health")).json()
    assert body["status"] == status
    assert body["checks"] == {"nats": healthy, "database": True, "store": healthy}
    assert body["problems"] == ({} if healthy else {"store": "it is full"})


async def test_metrics_are_in_the_text_format() -> None:
    async with client_of(make_app()) as client:
        answer = await client.get("/metrics")
    assert "things_total 3.0" in answer.text
    assert answer.headers["content-type"].startswith("text/plain")


async def test_the_interface_documents_itself() -> None:
    async with client_of(make_app()) as client:
        assert (await client.get("/docs")).status_code == 200
        assert "/things" in (await client.get("/openapi.json")).json()["paths"]


async def test_the_page_of_the_interface_loads_and_runs_nothing() -> None:
    async with client_of(make_app()) as client:
        page = await client.get("/docs")
    for shown in ("POST /things", "RequestBody", "count", "integer", "A thing."):
        assert shown in page.text
    assert re.findall(r"<script|<link|<img|<iframe|//[a-z]|url\(|@import", page.text) == []
    assert re.findall(r'(?:src|href)="([^"#]+)', page.text) == ["openapi.json"]
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "script-src" not in policy


async def test_every_answer_is_data_to_a_browser() -> None:
    """Also a refusal, of what is no route, and of what nobody thought of."""
    async with client_of(make_app(TOKEN)) as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"
        paths = ["/health", "/metrics", "/lists/x", "/busy", "/nothing", "/surprise"]
        answers = [await client.get(path) for path in paths]
        answers.append(await client.get("/metrics", headers={"authorization": "wrong"}))
    for answer in answers:
        assert answer.headers["content-security-policy"].endswith("sandbox")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert [each.status_code for each in answers] == [200, 200, 200, 429, 404, 500, 401]


@pytest.mark.parametrize("length_is_told", [True, False])
async def test_a_body_that_is_read_whole_is_bounded(*, length_is_told: bool) -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(2 * MAX_BODY_BYTES // 2**20):
            sent += 2**20
            yield bytes(2**20)

    headers = {"content-type": "application/json"}
    if length_is_told:
        headers["content-length"] = str(2 * MAX_BODY_BYTES)
    async with client_of(make_app()) as client:
        answer = await client.post("/things", content=body(), headers=headers)
    assert answer.status_code == 413
    assert answer.json()["detail"].endswith(f"body: at most {MAX_BODY_BYTES} bytes accepted")
    assert sent <= (0 if length_is_told else MAX_BODY_BYTES + 2**20)


async def test_every_route_declares_the_problems_that_any_may_answer_with() -> None:
    async with client_of(make_app()) as client:
        interface = (await client.get("/openapi.json")).json()
    for operation, statuses in problem_statuses(interface):
        assert statuses >= {"401", "403", "408", "422", "500", "503", "default"}, operation


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


async def test_what_may_be_asked_of_a_path_is_told_by_all_of_its_routes() -> None:
    async with client_of(make_app()) as client:
        answers = [await client.put("/things"), await client.post("/health")]
        metrics = (await client.get("/openapi.json")).json()["paths"]["/metrics"]["get"]
    assert [each.headers["allow"] for each in answers] == ["GET, POST", "GET"]
    assert list(metrics["responses"]["200"]["content"]) == ["text/plain"]


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        (
            "/lists/all?stat=failed&limit=1",
            "query: unknown: 'stat' (did you mean 'state'?); known: cursor, limit, state",
        ),
        ("/lists/all?state=a&state=b", "query.state: given 2 times, at most once expected"),
        ("/health?x=", "query: unknown: 'x'; none is known here"),
        ("/health?" + "y" * 1000 + "=1", "query: unknown: '" + "y" * 100 + "'; none is known here"),
        ("/lists/all?limit=1&cursor=2&state=a%26b", "200"),
    ],
)
async def test_a_query_that_says_what_its_route_does_not_know_is_refused(
    path: str, detail: str
) -> None:
    async with client_of(make_app()) as client:
        answer = await client.get(path)
    if detail == "200":
        assert answer.status_code == 200
    else:
        assert answer.status_code == 422
        assert answer.json()["detail"] == detail


@pytest.mark.parametrize(
    ("kind", "reason"), [("locked", "database is locked"), ("exhausted", "all 50 connections")]
)
async def test_a_database_that_cannot_be_used_now_is_to_be_asked_later(
    kind: str, reason: str
) -> None:
    async with client_of(make_app()) as client:
        answer = await client.get(f"/database/{kind}")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert answer.json()["detail"].startswith(f"database unavailable: {reason}")


async def test_a_problem_carries_its_headers_and_members() -> None:
    async with client_of(make_app()) as client:
        answer = await client.get("/busy")
    assert answer.headers["retry-after"] == "2"
    assert answer.json()["known"] == ["LC"]


@pytest.mark.parametrize("sent", [None, "Bearer wrong", "Basic secret", "secret", "Bearer sécret"])
async def test_a_missing_or_wrong_token_is_refused(sent: str | None) -> None:
    headers = [(b"Authorization", sent.encode())] if sent else []
    async with client_of(make_app(token=TOKEN)) as client:
        for path in ("/things", "/metrics", "/docs", "/openapi.json", "/health/x"):
            answer = await client.get(path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        assert (await client.get("/health")).status_code == 200


async def test_the_right_token_is_accepted() -> None:
    async with client_of(make_app(token=TOKEN)) as client:
        answer = await client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200


@pytest.mark.parametrize("host", ["x/health?", "x/health#", "localhost/health?", "evil.example"])
async def test_a_path_in_the_host_opens_nothing(host: str) -> None:
    async with client_of(make_app(token=TOKEN)) as client:
        for path in ("/things", "/metrics", "/docs"):
            assert (await client.get(path, headers={"Host": host})).status_code == 401


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000", "x.localhost"])
async def test_without_a_token_this_machine_is_answered_under_its_names(host: str) -> None:
    async with client_of(make_app()) as client:
        assert (await client.get("/metrics", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "[::1", "", "192.168.1.5"])
async def test_without_a_token_another_host_is_refused(host: str) -> None:
    async with client_of(make_app()) as client:
        answer = await client.get("/metrics", headers={"Host": host})
    assert answer.status_code == 403
    assert answer.json()["detail"].startswith(f"Host {host!r}: not this machine (accepted ")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://localhost:9", "["])
@pytest.mark.parametrize("token", [None, TOKEN])
async def test_a_page_of_another_origin_changes_nothing(origin: str, token: str | None) -> None:
    headers = {"Origin": origin, "Authorization": f"Bearer {TOKEN}"}
    async with client_of(make_app(token=token)) as client:
        answer = await client.post("/things", json={"product": "A", "count": 1}, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["detail"].startswith(f"Origin {origin!r}: not that of this service")


async def test_a_page_of_the_service_itself_may_act() -> None:
    headers = {"Origin": "http://localhost:8000"}
    async with client_of(make_app()) as client:
        answer = await client.post("/things", json={"product": "A", "count": 1}, headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/things/%00", "/metrics?cursor=%00", "/a%00b?x=1"])
async def test_an_address_with_nul_is_refused(path: str) -> None:
    async with client_of(make_app()) as client:
        answer = await client.get(path)
    assert answer.status_code == 422
    assert answer.json()["detail"] == "the address contains NUL (%00)"


async def test_others_are_answered_while_the_interface_is_described(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = make_app()
    begun, answered = threading.Event(), threading.Event()

    def describe() -> dict[str, bool]:
        begun.set()
        return {"meanwhile": answered.wait(20)}

    monkeypatch.setattr(app, "openapi", describe)
    async with client_of(app) as client:
        describing = asyncio.create_task(client.get("/openapi.json"))
        assert await asyncio.to_thread(begun.wait, 20)
        assert (await client.get("/health")).is_success
        answered.set()
        assert (await describing).json() == {"meanwhile": True}
