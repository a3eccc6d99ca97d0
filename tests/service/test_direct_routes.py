"""Routes that take the request itself are found, checked and answered for as all others are."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from batuta.service.app import AppConfig, create_app
from batuta.service.direct_routes import DirectRoute
from batuta.service.problems import ProblemError
from batuta.service.routing import ServiceRouter, add_routers

PATH = "/things/{name}"
_QUERY = {"parameters": [{"name": "size", "in": "query", "schema": {"type": "string"}}]}


class FullError(Exception):
    """What the application has a handler of its own for."""


def things() -> ServiceRouter:
    router = ServiceRouter(route_class=DirectRoute)

    @router.post(PATH, openapi_extra=_QUERY)
    async def make(request: Request) -> Response:
        """Make a thing."""
        name = request.path_params["name"]
        if name == "refused":
            raise ProblemError(HTTPStatus.CONFLICT, "there is one", {"Retry-After": "7"})
        if name == "full":
            raise FullError
        if name == "broken":
            raise RuntimeError("secret")
        return Response(f"{name}: {(await request.body()).decode()}")

    return router


async def on_full(_request: Request, _exc: Exception) -> Response:
    return Response("full", status_code=HTTPStatus.INSUFFICIENT_STORAGE)


@pytest.fixture
def app() -> FastAPI:
    app = create_app(AppConfig(name="test", description="A test."))
    app.add_exception_handler(FullError, on_full)
    add_routers(app, things())
    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


async def test_its_function_reads_the_request(client: httpx.AsyncClient) -> None:
    answer = await client.post("/things/a?size=3", content="body")
    assert (answer.status_code, answer.text) == (HTTPStatus.OK, "a: body")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_fastapi_has_no_part_in_a_request(
    client: httpx.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr(app.router, "middleware_stack", refuse)
    assert (await client.post("/things/a")).status_code == HTTPStatus.OK
    assert (await client.get("/things/a")).status_code == HTTPStatus.INTERNAL_SERVER_ERROR


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("sise=3", "query: unknown: 'sise' (did you mean 'size'?); known: size"),
        ("size=3&size=4", "query.size: given 2 times, at most once expected"),
    ],
)
async def test_a_query_that_it_does_not_know_is_refused(
    client: httpx.AsyncClient, query: str, detail: str
) -> None:
    answer = await client.post(f"/things/a?{query}")
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert answer.json()["detail"] == detail


async def test_a_problem_is_answered_with_its_headers(client: httpx.AsyncClient) -> None:
    answer = await client.post("/things/refused")
    assert answer.status_code == HTTPStatus.CONFLICT
    assert answer.headers["Retry-After"] == "7"
    assert answer.json()["detail"] == "there is one"


async def test_what_the_application_handles_is_answered_so(client: httpx.AsyncClient) -> None:
    answer = await client.post("/things/full")
    assert (answer.status_code, answer.text) == (HTTPStatus.INSUFFICIENT_STORAGE, "full")


async def test_what_nobody_expects_is_a_problem_that_tells_nothing(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/things/broken")
    assert answer.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    assert answer.json()["detail"] == "POST /things/broken: RuntimeError, see the service's log"


async def test_another_method_is_told_which_are_accepted(client: httpx.AsyncClient) -> None:
    answer = await client.get("/things/a")
    assert answer.status_code == HTTPStatus.METHOD_NOT_ALLOWED
    assert answer.headers["Allow"] == "POST"


async def test_a_body_is_bounded(client: httpx.AsyncClient) -> None:
    answer = await client.post("/things/a", content=bytes(2**24 + 1))
    assert answer.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


async def test_it_is_described(client: httpx.AsyncClient) -> None:
    described = (await client.get("/openapi.json")).json()["paths"][PATH]["post"]
    assert described["parameters"] == _QUERY["parameters"]
    assert described["description"] == "Make a thing."
