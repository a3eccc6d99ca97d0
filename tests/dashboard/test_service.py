"""The dashboard as a service: what it shows, passes on, and refuses."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from batuta.dashboard.pages import Pages
from batuta.dashboard.service import open_dashboard
from batuta.dashboard.sessions import SESSION_S, Sessions, session_cookie
from tests.conductor.stage import Stage
from tests.dashboard.conftest import Watched, dashboard_settings, playing
from tests.support.servers import NatsServer
from tests.support.services import serving
from tests.support.waiting import eventually_sync

TOKEN = "a-token-of-enough-length"  # noqa: S105  of a test's own
ALL = ["read", "import", "operate", "administer"]
NO_LIMIT = httpx.Timeout(30.0)


@contextmanager
def followed(url: str, **arguments: Any) -> Iterator[dict[str, Any]]:
    """Follow the stream until a value is what a test waits for: see `until`."""
    with httpx.stream("GET", f"{url}/stream", timeout=NO_LIMIT, **arguments) as response:
        assert response.status_code == HTTPStatus.OK, response.read()
        yield {"lines": response.iter_lines()}


def until(stream: dict[str, Any], key: str, wanted: Any) -> dict[str, Any]:
    """Read the stream until the value of `key` passes `wanted`; return all values."""
    values = stream.setdefault("values", {})
    for line in stream["lines"]:
        if not line.startswith("data: "):
            continue
        values |= json.loads(line.removeprefix("data: "))
        if values.get(key) is not None and wanted(values[key]):
            return dict(values)
    raise AssertionError("the stream has ended")


def test_an_observation_is_seen_from_its_arrival_to_its_products(watched: Watched) -> None:
    with followed(watched.url) as stream:
        until(stream, "graph", lambda graph: graph["levels"] == [["A"], ["B"], ["C"]])
        watched.stage.archive("A", "o1")
        values = until(stream, "obs/o1", lambda each: each["s"] == "AAA")
        assert values["asked/conductor"]["problem"] is None


def test_who_comes_later_is_shown_what_the_conductor_has_recorded(watched: Watched) -> None:
    with followed(watched.url) as stream:
        watched.stage.archive("A", "o1")
        until(stream, "obs/o1", lambda each: each["s"] == "AAA")
    settings = dashboard_settings(watched.stage, watched.conductor_url)
    with serving(open_dashboard, settings) as url, followed(url) as stream:
        until(stream, "obs/o1", lambda each: each["s"] == "AAA")


def test_a_dashboard_that_stops_ends_its_streams_as_complete_answers(watched: Watched) -> None:
    settings = dashboard_settings(watched.stage, watched.conductor_url)
    with ExitStack() as running:
        url = running.enter_context(serving(open_dashboard, settings))
        with followed(url) as stream:
            until(stream, "graph", bool)
            stopping = threading.Thread(target=running.close)
            stopping.start()
            # One that was cut off raises RemoteProtocolError here.
            for _ in stream["lines"]:
                pass
            stopping.join()


def test_orders_and_questions_are_passed_on(watched: Watched) -> None:
    watched.stage.archive("A", "o1")

    def has_made(versions: int) -> bool:
        listed = httpx.get(f"{watched.url}/api/sdb/products", params={"product": "B"}).json()
        return len(listed["items"]) == versions

    eventually_sync(lambda: has_made(1), 30)
    again = httpx.post(
        f"{watched.url}/api/conductor/processings",
        json={"product": "B", "obs_id": "o1"},
        headers={"Origin": watched.url, "Batuta-Operator": "ana"},
        timeout=NO_LIMIT,
    )
    assert again.status_code == HTTPStatus.ACCEPTED
    eventually_sync(lambda: has_made(2), 30)
    orders = httpx.get(f"{watched.url}/api/conductor/orders").json()["items"]
    assert any("ana" in json.dumps(order) for order in orders)


def test_a_refusal_comes_as_the_conductor_says_it(watched: Watched) -> None:
    direct = httpx.get(f"{watched.conductor_url}/why/Z/o1")
    passed_on = httpx.get(f"{watched.url}/api/conductor/why/Z/o1")
    assert passed_on.status_code == direct.status_code == HTTPStatus.NOT_FOUND
    assert passed_on.json() == direct.json()


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_page_of_another_origin_can_do_nothing(watched: Watched, method: str) -> None:
    url = f"{watched.url}/api/conductor/hold"
    answer = httpx.request(method, url, headers={"Origin": "http://evil.example"})
    assert answer.status_code == HTTPStatus.FORBIDDEN


def test_a_name_from_outside_stays_a_name(watched: Watched) -> None:
    for path in ("observations/..%2f..%2fhealth", "observations/%3Fx=1", "..%2fhealth%2f"):
        answer = httpx.get(f"{watched.url}/api/conductor/{path}")
        assert answer.status_code == HTTPStatus.NOT_FOUND, path
    why = httpx.get(f"{watched.url}/api/conductor/why/B/%23x%3Fy")
    assert why.json()["obs_id"] == "#x?y"


def test_what_is_no_service_is_refused_with_those_that_are(watched: Watched) -> None:
    answer = httpx.get(f"{watched.url}/api/nats/x")
    assert answer.status_code == HTTPStatus.NOT_FOUND
    assert "accepted: conductor, sdb" in answer.json()["detail"]


def test_a_long_order_is_refused(watched: Watched) -> None:
    answer = httpx.post(f"{watched.url}/api/conductor/processings", content=b"x" * (2**20 + 1))
    assert answer.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE, answer.text


def test_a_conductor_that_is_away_is_told_and_others_are_shown(watched: Watched) -> None:
    settings = dashboard_settings(watched.stage, "http://127.0.0.1:9")
    with serving(open_dashboard, settings) as url, followed(url) as stream:
        values = until(stream, "asked/conductor", lambda each: each["problem"] is not None)
        assert "cannot be reached" in values["asked/conductor"]["problem"]
        until(stream, "asked/sdb", lambda each: each["problem"] is None)
        assert httpx.get(f"{url}/api/conductor/summary").status_code == HTTPStatus.BAD_GATEWAY
        health = httpx.get(f"{url}/health").json()
        assert health["status"] == "degraded"
        assert "conductor" in health["problems"]


ODD_ANSWERS = {
    "no JSON": "<html>",
    "NaN": '{"number": NaN}',
    "another shape": "[1]",
    "a graph that is none": '{"items": [{"number": 1}], "next": null, "products": {"B": 7}}',
}


@pytest.mark.parametrize("answer", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
def test_an_odd_answer_of_the_conductor_is_told_and_ends_nothing(
    own_nats: NatsServer, tmp_path: Path, answer: str
) -> None:
    stage = Stage(tmp_path, own_nats, "http://127.0.0.1:9")
    with answering(answer) as conductor_url:
        settings = dashboard_settings(stage, conductor_url)
        with serving(open_dashboard, settings) as url, followed(url) as stream:
            until(stream, "asked/conductor", lambda each: each["problem"] is not None)
            # And once more: it still asks.
            until(stream, "asked/sdb", lambda each: each["problem"] is not None)
            assert httpx.get(f"{url}/health").json()["status"] == "degraded"


@contextmanager
def answering(text: str) -> Iterator[str]:
    """Answer every request by the same text."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: object) -> None:
            """Keep the output of tests clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_signing_in_does_not_need_the_conductor(own_nats: NatsServer, tmp_path: Path) -> None:
    stage = Stage(tmp_path, own_nats, "http://127.0.0.1:9")
    settings = dashboard_settings(stage, "http://127.0.0.1:9", token=TOKEN)
    with serving(open_dashboard, settings) as url:
        other = httpx.post(f"{url}/session", json={"token": "another-token-of-length"})
        assert other.status_code == HTTPStatus.UNAUTHORIZED
        assert "set-cookie" not in other.headers
        own = httpx.post(f"{url}/session", json={"token": TOKEN})
        assert own.json()["signed_in"]


def test_with_a_token_nothing_is_shown_before_somebody_has_signed_in(
    tmp_path: Path, own_nats: NatsServer
) -> None:
    with (
        playing(tmp_path, own_nats, token=TOKEN) as watched,
        httpx.Client(base_url=watched.url, timeout=NO_LIMIT) as browser,
    ):
        for path in ("/stream", "/api/conductor/summary", "/metrics", "/openapi.json"):
            assert browser.get(path).status_code == HTTPStatus.UNAUTHORIZED, path
        for path in ("/", "/app.js", "/stream.js"):
            assert browser.get(path).status_code != HTTPStatus.UNAUTHORIZED, path
        assert browser.get("/session").json() == {"needed": True, "signed_in": False, "may": []}
        wrong = browser.post("/session", json={"token": "another-token-of-length"})
        assert wrong.status_code == HTTPStatus.UNAUTHORIZED
        right = browser.post("/session", json={"token": TOKEN})
        cookie = right.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        assert browser.get("/api/conductor/summary").status_code == HTTPStatus.OK
        state = {"needed": True, "signed_in": True, "may": ALL}
        assert browser.get("/session").json() == state
        assert browser.delete("/session").json() == state | {"signed_in": False, "may": []}
        assert browser.get("/api/conductor/summary").status_code == HTTPStatus.UNAUTHORIZED


def test_a_session_ends_by_itself_and_is_of_one_cookie_alone() -> None:
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    key = sessions.open(TOKEN)
    header = session_cookie(key, secure=True).partition(";")[0]
    found = sessions.find(f"other=1; {header}")
    assert found is not None
    assert found.token == TOKEN
    assert sessions.find("batuta_session=") is None
    assert sessions.find(f"batuta_session={key}x") is None
    now[0] = SESSION_S
    assert sessions.find(header) is None


def test_the_page_may_load_and_run_what_it_brings_and_nothing_else(watched: Watched) -> None:
    for path in ("/", "/observations/o1?product=B", "/wall"):
        answer = httpx.get(watched.url + path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


def test_without_its_page_it_says_how_to_build_it(tmp_path: Path) -> None:
    assert not Pages(tmp_path).built
    (tmp_path / "index.html").write_text("<html>")
    assert Pages(tmp_path).built


def test_a_graph_in_yaml_is_read_and_its_mistakes_are_told_one_by_one(watched: Watched) -> None:
    def read(text: str) -> httpx.Response:
        return httpx.post(f"{watched.url}/documents/graph", json={"text": text}, timeout=NO_LIMIT)

    product = "{m_input: [%s], o_input: [], provider: maker, url: 'http://127.0.0.1:1'}"
    good = read(f"inputs: [A]\nproducts:\n  B: {product % 'A'}\n")
    assert good.json()["products"]["B"]["m_input"] == ["A"]
    bad = read(f"inputs: [A]\nproducts:\n  B: {product % 'X'}\n  C: {product % 'Y'}\n")
    assert bad.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert len(bad.json()["problems"]) == 2
