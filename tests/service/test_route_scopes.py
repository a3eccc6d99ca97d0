"""Which token may do what: every route of every service, and what it answers to each token."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import pytest
from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from batuta.conductor import ConductorSettings
from batuta.conductor.service import open_conductor
from batuta.dashboard.service import open_dashboard
from batuta.dashboard.settings import DashboardSettings
from batuta.pipeline.simulate import SimulateSettings
from batuta.pipeline.simulate.service import open_simulate
from batuta.sdb import SdbSettings
from batuta.sdb.service import open_sdb
from batuta.service.access import AccessControl, AccessRules
from batuta.service.route_scopes import (
    CONDUCTOR,
    DASHBOARD,
    OPEN,
    PIPELINE,
    READ,
    SDB,
    RouteScopes,
    RouteTable,
)
from batuta.service.scopes import Scope
from batuta.service.token_file import add_token, read_tokens
from tests.support.databases import migrated_sqlite
from tests.support.servers import NatsServer
from tests.support.services import serving

ROOT: Final = Path(__file__).parents[2]
SHARED: Final = "shared-by-all-services"
TABLES: Final[Mapping[str, RouteTable]] = {
    "sdb": SDB,
    "conductor": CONDUCTOR,
    "pipeline": PIPELINE,
    "dashboard": DASHBOARD,
}
MAY: Final[Mapping[str, set[str]]] = {
    "read": {"read"},
    "import": {"import"},
    "operate": {"read", "operate"},
    "administer": {"read", "import", "operate", "administer"},
}
"""What each scope allows, written out."""
GRAPH: Final = {
    "inputs": ["A"],
    "products": {
        "B": {"m_input": ["A"], "o_input": [], "provider": "maker", "url": "http://127.0.0.1:1"}
    },
}


@dataclass(frozen=True)
class Opened:
    """A service as it was opened: its routes, and who may call them."""

    routes: tuple[tuple[str, str], ...]
    """Methods and templates; those of a pipeline without its root path."""
    rules: AccessRules


@dataclass(frozen=True)
class Orchestra:
    """All services, and a token of each kind."""

    services: Mapping[str, Opened]
    tokens: Mapping[str, str]


@pytest.fixture(scope="module")
def orchestra(
    tmp_path_factory: pytest.TempPathFactory, shared_nats: NatsServer
) -> Iterator[Orchestra]:
    folder = tmp_path_factory.mktemp("scopes")
    path, graph = folder / "tokens.yaml", folder / "graph.json"
    graph.write_text(json.dumps(GRAPH))
    tokens = {scope: add_token(path, scope, [Scope(scope)]) for scope in MAY}
    tokens["expired"] = add_token(path, "expired", [Scope.READ], datetime(2020, 1, 1, tzinfo=UTC))
    common = {"port": 0, "nats_url": shared_nats.url, "token": SHARED, "tokens": path}
    sdb = SdbSettings(
        **common,
        database_url=migrated_sqlite(folder / "sdb.db"),
        store_url=str(folder / "products"),
    )
    conductor = ConductorSettings(
        **common, graph=graph, database_url=migrated_sqlite(folder / "conductor.db")
    )
    pipeline = SimulateSettings(**common, graph=graph, data_dir=folder / "simulate")
    with serving(open_sdb, sdb) as url:
        apps = asyncio.run(
            opened(
                {
                    "sdb": (open_sdb, sdb),
                    "conductor": (open_conductor, conductor.model_copy(update={"sdb_url": url})),
                    "pipeline": (open_simulate, pipeline),
                    "dashboard": (open_dashboard, DashboardSettings(**common)),
                }
            )
        )
        yield Orchestra(apps, {"shared": SHARED, **tokens})


async def opened(services: Mapping[str, tuple[Any, Any]]) -> dict[str, Opened]:
    found = {}
    async with AsyncExitStack() as stack:
        for name, (open_service, settings) in services.items():
            service = await stack.enter_async_context(open_service(settings, "http://127.0.0.1:1"))
            root = settings.root_path if name == "pipeline" else ""
            found[name] = Opened(tuple(routes_of(service.app, root)), rules_of(service.app))
    return found


def rules_of(app: FastAPI) -> AccessRules:
    (rules,) = (each.kwargs["rules"] for each in app.user_middleware if "rules" in each.kwargs)
    assert isinstance(rules, AccessRules)
    return rules


def routes_of(app: FastAPI, root_path: str) -> Iterator[tuple[str, str]]:
    for route in app.router.routes:
        assert isinstance(route, Route), f"{route} is of a kind that this test does not know"
        for method in sorted(route.methods or ()):
            yield method, route.path.removeprefix(root_path)


def address(template: str) -> str:
    """Return a path that fits a template."""
    return re.sub(r"{[^}:]*}", "one", re.sub(r"{[^}]*:path}", "some/thing", template))


@pytest.mark.parametrize("service", TABLES)
def test_every_route_has_a_scope(orchestra: Orchestra, service: str) -> None:
    opened = orchestra.services[service]
    scopes = RouteScopes(opened.rules.routes)
    assert len(opened.routes) > 10
    forgotten, confused = [], []
    for method, path in opened.routes:
        line = scopes.line(method, address(path))
        if path == "/api/{service}/{path:path}":
            continue  # what is passed on has the lines of the service that it is passed on to
        own = f"{'GET' if method == 'HEAD' else method} {path}"
        if line is None and method not in {"GET", "HEAD"}:
            forgotten.append(own)
        elif line not in {None, own}:
            confused.append(f"{own} is taken for {line}")
    assert forgotten == []
    assert confused == []


@pytest.mark.parametrize("service", TABLES)
def test_no_line_is_of_a_route_that_is_not_there(orchestra: Orchestra, service: str) -> None:
    there = {f"{method} {path}" for method, path in orchestra.services[service].routes}
    passed_on = {each for each in TABLES[service] if " /api/" in each}
    assert TABLES[service].keys() - there - passed_on == set()


def test_what_was_forgotten_is_for_those_who_administer() -> None:
    scopes = RouteScopes({"POST /holds/{number}": frozenset({Scope.OPERATE})})
    assert scopes.needed("GET", "/new") == {Scope.READ}
    assert scopes.needed("POST", "/new") == {Scope.ADMINISTER}
    # What a router would redirect, or take for another path, is not in the table either.
    for path in ("/holds/1/", "//holds/1", "/HOLDS/1", "/holds/1/more"):
        assert scopes.needed("POST", path) == {Scope.ADMINISTER}


def test_what_is_passed_on_needs_what_it_needs_at_its_service() -> None:
    dashboard = RouteScopes(DASHBOARD)
    for service, table in (("conductor", CONDUCTOR), ("sdb", SDB)):
        for line, needed in table.items():
            method, path = line.split(" ")
            found = dashboard.needed(method, f"/api/{service}{address(path)}")
            # A callback has no reason to come by the page.
            assert found == (needed or {Scope.ADMINISTER}), line


def test_of_two_lines_the_more_specific_one_counts() -> None:
    scopes = RouteScopes(
        {
            "GET /{path:path}": OPEN,
            "GET /api/{path:path}": READ,
            "POST /things/{name}": frozenset({Scope.IMPORT}),
            "POST /things/lookup": READ,
        }
    )
    assert scopes.line("HEAD", "/api/x/y") == "GET /api/{path:path}"
    assert scopes.line("GET", "/apis") == "GET /{path:path}"
    assert scopes.line("POST", "/things/lookup") == "POST /things/lookup"
    assert scopes.line("POST", "/things/else") == "POST /things/{name}"


def answer(
    rules: AccessRules, method: str, path: str, token: str | None
) -> tuple[HTTPStatus, str, dict[str, str]]:
    """Return status, problem and headers that a request is answered with; 200 if it is let in."""
    sent: list[Message] = []
    authorization = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"localhost"), *authorization],
        "server": ("localhost", 80),
    }

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(AccessControl(Response(), rules)(scope, receive, send))
    body = b"".join(each.get("body", b"") for each in sent)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return HTTPStatus(sent[0]["status"]), json.loads(body)["detail"] if body else "", headers


@pytest.mark.parametrize("service", TABLES)
def test_each_token_opens_what_it_is_for_and_is_refused_in_one_line_elsewhere(
    orchestra: Orchestra, service: str
) -> None:
    opened = orchestra.services[service]
    root = "/pipeline" if service == "pipeline" else ""
    scopes = RouteScopes(opened.rules.routes)
    unlike: list[tuple[object, ...]] = []
    for method, template in opened.routes:
        path = root + address(template)
        needed = {str(each) for each in scopes.needed(method, path)}
        for scope, may in MAY.items():
            status, problem, headers = answer(opened.rules, method, path, orchestra.tokens[scope])
            if not needed or needed & may:
                if status != HTTPStatus.OK:
                    unlike.append((method, path, scope, status))
                continue
            names = [each for each in MAY if each in needed]
            line = (
                f"{method} {path}: needs a token with the scope {' or '.join(names)} "
                f"(that of {scope} has: {scope})"
            )
            if (status, problem) != (HTTPStatus.FORBIDDEN, line):
                unlike.append((method, path, scope, status, problem))
            assert f'scope="{" ".join(names)}"' in headers["www-authenticate"]
    assert unlike == []


@pytest.mark.parametrize("service", TABLES)
def test_nothing_but_what_is_open_is_answered_without_a_token_that_is_valid(
    orchestra: Orchestra, service: str
) -> None:
    opened = orchestra.services[service]
    root = "/pipeline" if service == "pipeline" else ""
    told = {
        None: "missing token",
        "unknown-to-everybody": "wrong token",
        orchestra.tokens["expired"]: "the token of expired has expired at 2020-01-01T00:00:00Z",
    }
    open_to_all = set()
    for method, template in opened.routes:
        path = root + address(template)
        for token, reason in told.items():
            status, problem, headers = answer(opened.rules, method, path, token)
            if status == HTTPStatus.OK:
                open_to_all.add(f"{method} {template}")
                continue
            assert status == HTTPStatus.UNAUTHORIZED
            assert problem.startswith(f"{reason} (accepted: ")
            assert headers["www-authenticate"] == "Bearer"
        assert answer(opened.rules, method, path, orchestra.tokens["shared"])[0] == HTTPStatus.OK
    assert open_to_all == {
        "GET /health",
        *(f"{method} {path}" for method, path in OPEN_TO_ALL.get(service, ())),
    }


OPEN_TO_ALL: Final = {
    "conductor": [("POST", "/callbacks/{processing_id}/{attempt}/{token}/{what}")],
    "dashboard": [
        *((method, "/session") for method in ("GET", "POST", "DELETE")),
        *((method, "/{path:path}") for method in ("GET", "HEAD")),
    ],
}
"""What anybody may ask, besides the health."""


def test_a_token_is_not_found_by_its_digest(orchestra: Orchestra) -> None:
    rules = orchestra.services["sdb"].rules
    (digest, *_) = (each.sha256_of_token for each in read_tokens_of(rules).values())
    assert answer(rules, "GET", "/products", digest)[0] == HTTPStatus.UNAUTHORIZED


def read_tokens_of(rules: AccessRules) -> Any:
    path = rules.tokens.path
    assert path is not None
    return read_tokens(path)


def test_the_scheme_has_no_case(orchestra: Orchestra) -> None:
    rules = orchestra.services["sdb"].rules
    for sent in (b"bearer", b"BEARER "):
        headers = [(b"authorization", sent + b" " + SHARED.encode())]
        assert rules.grant_of(headers) is not None


def test_the_reference_has_every_line_of_the_tables() -> None:
    page = (ROOT / "docs" / "reference" / "tokens.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z`, ]+) \| ([a-z]+) \| (.*) \|$", page, re.MULTILINE)
    documented = {
        (service, line, frozenset(re.findall(r"`(\w+)`", scopes)))
        for scopes, service, lines in rows
        for line in re.findall(r"`([A-Z]+ /[^`]*)`", lines)
    }
    lines = {
        (service, line, frozenset(map(str, needed)))
        for service, table in TABLES.items()
        for line, needed in table.items()
        if needed and " /api/" not in line and not (service == "dashboard" and needed == READ)
    }
    assert documented == lines
