"""Whether the NATS of an orchestra works: what it says, and what those who use it say."""

import json
import shutil
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from batuta.cli.deployment.nats_check import nats_works
from batuta.messaging import NatsConfig
from tests.support.servers import NatsServer

NOWHERE = "http://127.0.0.1:1"
Usage = namedtuple("Usage", ["total", "used", "free"])  # noqa: PYI024  as shutil has it


@contextmanager
def an_sdb_that_answers(body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("body", "works"),
    [
        (json.dumps({"checks": {"nats": True, "store": False}}).encode(), True),
        (json.dumps({"checks": {"nats": False}}).encode(), False),
        (b"[" * 10_000, True),
        (b"[]", True),
        (b'{"checks": 1}', True),
    ],
)
async def test_nats_works_unless_the_sdb_misses_it(
    own_nats: NatsServer, tmp_path: Path, body: bytes, *, works: bool
) -> None:
    with an_sdb_that_answers(body) as url:
        assert await nats_works(NatsConfig(url=own_nats.url), tmp_path, url) == works


async def test_an_sdb_that_does_not_answer_says_nothing_of_nats(
    own_nats: NatsServer, tmp_path: Path
) -> None:
    assert await nats_works(NatsConfig(url=own_nats.url), tmp_path, NOWHERE)


async def test_a_full_disk_is_not_mended_by_restarts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nats = NatsConfig(url="nats://127.0.0.1:1")
    assert not await nats_works(nats, tmp_path, NOWHERE)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10, 10, 0))
    assert await nats_works(nats, tmp_path, NOWHERE)
