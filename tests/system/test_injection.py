"""Whatever is sent to any door of a running orchestra, it goes on and answers everyone else.

The doors are those that are open to others: each subject of NATS, each route of each service (as
its OpenAPI document lists them, so that a new route is a new door).
"""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx
import nats
import pytest

from batuta.sdb import SdbClient
from tests.support.interfaces import require_declared
from tests.support.orchestras import OrchestraProcess
from tests.support.waiting import eventually_sync

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

URL: Final = "http://127.0.0.1:1/pipeline"
GRAPH: Final = {
    "inputs": ["A"],
    "products": {
        "B": {"m_input": ["A"], "provider": "maker", "url": URL},
        "C": {"m_input": ["B"], "provider": "writer", "url": URL},
    },
}
WRITER: Final = """
from batuta.pipeline import Pipeline

pipeline = Pipeline("writer")

@pipeline.product("C", inputs=["B"])
def c(context):
    path = context.output_path("c.txt")
    path.write_text(context.obs_id)
    return path
"""

DEEP: Final = "[" * 5000 + "]" * 5000
VALUES: Final = (
    "null",
    "true",
    "-1",
    "2147483648",
    "9223372036854775808",
    "1e400",
    "1" * 5000,
    "NaN",
    '""',
    r'"\u0000"',
    r'"\ud800"',
    r'"\u202e\u001b[2J"',
    '"../../etc/passwd"',
    '"x"' + " " * 100_000,
    '"' + "x" * 300_000 + '"',
    "[]",
    "{}",
    DEEP,
    '"0001-01-01T00:00:00"',
    '"9999-12-31T23:59:59Z"',
    "\xff",
    "'",
)
"""JSON values, and what is none: each is put in the place of each field."""

TEXTS: Final = (
    "\0",
    "\xff\xfe",
    "../../etc/passwd",
    "'; DROP TABLE products; --",
    "-1",
    "2147483648",
    "9223372036854775808",
    "1e400",
    "\u202e\x1b[2J",
    "x" * 4000,
    "",
)
"""Texts: each is put in the place of each parameter of a route."""


@pytest.fixture(scope="module")
def orchestra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrchestraProcess]:
    folder = tmp_path_factory.mktemp("injection")
    (folder / "graph.json").write_text(json.dumps(GRAPH))
    (folder / "writer.py").write_text(WRITER)
    quick = {"wait_min_s": 0, "wait_max_s": 0, "failure": 0}
    config = {
        "conductor": {"graph": "graph.json"},
        "simulate": quick,
        "pipelines": [{"use": "writer:pipeline"}],
    }
    opened = OrchestraProcess(config, folder)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def addresses(orchestra: OrchestraProcess) -> dict[str, str]:
    orchestra.addresses()
    eventually_sync(lambda: orchestra.listed().keys() >= {"writer", "maker"}, 60)
    return orchestra.listed()


@pytest.fixture(autouse=True)
def unharmed(
    orchestra: OrchestraProcess,
    addresses: dict[str, str],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> Iterator[None]:
    """After each test, an observation is made from end to end, and no service has ended."""
    yield
    obs_id = "after-" + "".join(each if each.isalnum() else "-" for each in request.node.name)
    given = tmp_path / "a.txt"
    given.write_text("a")
    with SdbClient(addresses["sdb"]) as sdb:
        sdb.import_file(given, "A", obs_id)
        eventually_sync(lambda: len(list(sdb.list(obs_id=obs_id))) == 3, 60)
    for name in ("sdb", "conductor", "writer"):
        health = httpx.get(f"{_root(addresses[name])}/health").json()
        assert health["status"] == "ok", health
    for path in ("/observations?limit=1000", "/processings?limit=1000", "/services"):
        assert httpx.get(addresses["conductor"] + path).status_code == 200
    assert httpx.get(addresses["sdb"] + "/products?limit=1000").status_code == 200
    assert "restarting" not in orchestra.output


def _root(address: str) -> str:
    return address.removesuffix("/pipeline")


DATA: Final = {
    "product": '"A"',
    "obs_id": '"o1"',
    "version": "1",
    "processing_id": '"p1"',
    "provider": '"maker"',
    "size": "1",
    "sha256": '"00"',
    "uri": '"http://x"',
}
SERVICE: Final = {
    "name": '"maker"',
    "kind": '"pipeline"',
    "state": '"up"',
    "url": '"http://x"',
    "version": '"1"',
    "queued": "1",
    "running": "1",
}
PROCESSING: Final = {
    "id": '"p1"',
    "product": '"B"',
    "obs_id": '"o1"',
    "state": '"running"',
    "attempt": "1",
    "progress": '{"done": 1, "total": 2}',
    "error": '"e"',
    "started": '"2026-01-01T00:00:00Z"',
    "ended": '"2026-01-01T00:00:00Z"',
    "profile": '"/p"',
}
ENVELOPE: Final = {
    "specversion": '"1.0"',
    "id": '"i"',
    "source": '"/s"',
    "type": '"batuta.activity"',
    "time": '"2026-01-01T00:00:00Z"',
    "datacontenttype": '"application/json"',
    "data": json.dumps({"service": {"name": "maker", "kind": "pipeline"}}),
    "data_base64": '"e30="',
}


def written(fields: dict[str, str]) -> str:
    return "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"


def with_each_value(fields: dict[str, str]) -> Iterator[str]:
    """An object with each of its fields replaced by each of the values, one at a time."""
    for name, value in itertools.product(fields, VALUES):
        yield written({**fields, name: value})


def messages() -> Iterator[tuple[str, str]]:
    """Subject and payload of each message."""
    for payload in (*VALUES, *with_each_value(DATA)):
        yield "data.vhf", payload
        yield "data.sdb", payload
    for service in with_each_value(SERVICE):
        yield "activity.maker", _activity(service, written(PROCESSING))
    for processing in with_each_value(PROCESSING):
        yield "activity.maker", _activity(written(SERVICE), processing)
    for envelope in with_each_value(ENVELOPE):
        yield "activity.maker", envelope
        yield "data.vhf", envelope.replace("batuta.activity", "batuta.data.available")
    for subject in ("dead.data", "batuta.deliver.conductor", "$JS.ACK.DATA.x.1.1.1.1.1"):
        for payload in VALUES:
            yield subject, payload


def _activity(service: str, processing: str) -> str:
    data = f'{{"service": {service}, "processing": {processing}}}'
    return written({**ENVELOPE, "data": data, "data_base64": "null"})


def test_no_message_ends_a_service_or_blinds_it(addresses: dict[str, str]) -> None:
    sent = Counter[str]()

    async def send() -> None:
        client = await nats.connect(addresses["nats"])
        for subject, payload in messages():
            await client.publish(subject, payload.encode("latin-1", "replace"))
            sent[subject.partition(".")[0]] += 1
            if sent.total() % 100 == 0:
                await client.flush()
        await client.drain()

    asyncio.run(send())
    assert sent["data"] > 300
    assert sent["activity"] > 300


METHODS: Final = ("get", "post", "delete")


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of each route that takes something."""
    for path, item in document["paths"].items():
        for method in METHODS:
            operation = item.get(method)
            # What takes nothing is what an operator does to all: hold, release, reconcile.
            if operation and (operation.get("parameters") or operation.get("requestBody")):
                yield method, path, operation


def requests_of(method: str, path: str, operation: dict[str, Any]) -> Iterator[httpx.Request]:
    """Requests with each parameter replaced by each text, and bodies of each value."""
    parameters = operation.get("parameters", [])
    plain = {each["name"]: "x" for each in parameters if each["in"] == "path"}
    for parameter, text in itertools.product(parameters, TEXTS):
        name = parameter["name"]
        if parameter["in"] == "path":
            yield _request(method, _filled(path, {**plain, name: text}))
        else:
            yield _request(method, f"{_filled(path, plain)}?{name}={quote(text, safe='')}")
    if operation.get("requestBody"):
        for body in bodies(operation["requestBody"]["content"]):
            yield _request(method, _filled(path, plain), **body)


def bodies(content: dict[str, Any]) -> Iterable[dict[str, Any]]:
    fields = {"product": '"B"', "obs_id": '"o1"', "processing_id": '"p"', "attempt": "1"}
    if "application/json" in content:
        for value in (*VALUES, *with_each_value(fields)):
            yield {
                "content": value.encode("latin-1", "replace"),
                "headers": {"Content-Type": "application/json"},
            }
    else:
        metadata = {"metadata": "{}", "inputs": "[]", "processing_id": "p", "sha256": "0" * 64}
        given = {"product": "A", "obs_id": "o1", **metadata}
        for name, value in itertools.product(given, (*VALUES, *TEXTS)):
            fields_ = {**given, name: value}
            del fields_["sha256" if name != "sha256" else "inputs"]
            # As the bytes that a client could send, whatever Python would make of the text.
            files: Any = {
                each: (None, text.encode("latin-1", "replace")) for each, text in fields_.items()
            }
            yield {"files": {**files, "file": ("a.txt", b"x")}}


def _filled(path: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        path = path.replace("{" + name + "}", quote(value, safe=""))
    return path


def _request(method: str, path: str, **more: Any) -> httpx.Request:
    return httpx.Request(method.upper(), f"http://door{path}", **more)


@pytest.mark.parametrize("name", ["sdb", "conductor", "writer", "maker"])
def test_no_request_gets_a_server_error_or_harms_the_next(
    addresses: dict[str, str], name: str
) -> None:
    root = _root(addresses[name])
    document = httpx.get(f"{root}/openapi.json", timeout=60).json()  # made when first asked for
    answers = Counter[int]()
    with httpx.Client(base_url=root, timeout=30) as client:
        for operation in operations(document):
            for request in requests_of(*operation):
                request.url = httpx.URL(root).join(request.url.raw_path.decode("ascii"))
                request.headers["Host"] = request.url.netloc.decode("ascii")
                answer = client.send(request)
                assert answer.status_code < 500, (request.method, request.url, answer.text[:300])
                require_declared(document, answer)
                answers[answer.status_code] += 1
        if name == "conductor":
            release_all(client)
    assert answers.total() > 100
    assert answers[422] > 20


def release_all(conductor: httpx.Client) -> None:
    """Release what some of the requests have rightly held: the next is to be made."""
    for hold in conductor.get("/holds").raise_for_status().json()["items"]:
        conductor.post(f"/holds/{hold['number']}/release").raise_for_status()
