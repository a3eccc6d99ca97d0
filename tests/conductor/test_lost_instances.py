"""A provider at two addresses, one of which is killed: all is made, each product once."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from batuta.conductor.service import open_conductor
from tests.conductor.graphs import graph_of
from tests.conductor.stage import Stage, get, states
from tests.support.services import serving
from tests.support.waiting import eventually_sync

OBSERVATIONS = [f"o{number}" for number in range(6)]
SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COUNTS = sys.argv[1] == "counts"

class Pipeline(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        told = {"id": body["processing_id"], "state": "running", "attempt": body["attempt"]}
        answer = json.dumps(told if COUNTS else {}).encode()
        self.send_response(202)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Pipeline)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def endless_pipeline(kind: str) -> Iterator[tuple[str, int]]:
    """A pipeline that accepts everything and ends nothing: its address and its process."""
    command = [sys.executable, "-c", SERVER, kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}", process.pid
        finally:
            process.kill()


@pytest.mark.parametrize("kind", ["counts", "knows two fields"])
def test_what_a_killed_instance_had_accepted_is_made_by_the_other_and_once(
    stage: Stage, kind: str
) -> None:
    with endless_pipeline(kind) as (lost_url, pid):
        urls = [lost_url, f"{stage.pipeline_url}/pipeline"]
        products: dict[str, dict[str, object]] = {"B": {"m_input": ["A"], "url": urls}}
        graph = graph_of(["A"], products, {"maker": {"lost_after": 0.3}})
        settings = stage.settings(graph, provider_urls={})
        with serving(open_conductor, settings) as url:
            stage.announce("A", *OBSERVATIONS)
            eventually_sync(lambda: len(states(url)) == len(OBSERVATIONS))

            def accepted() -> bool:
                items = get(url, "/processings?limit=1000")["items"]
                at = [each for each in items if each["instance"] == lost_url]
                return bool(at) and all(each["state"] == "running" for each in at)

            eventually_sync(accepted)
            os.kill(pid, signal.SIGKILL)
            made = {f"B/{each}": "succeeded" for each in OBSERVATIONS}

            def all_made() -> bool:
                for processing_id, each in list(stage.pipeline.processings.items()):
                    if each["state"] not in ("succeeded", "failed"):
                        stage.pipeline.end(processing_id, "succeeded")
                return states(url) == made

            eventually_sync(all_made)
            (provider,) = httpx.get(f"{url}/providers").json()["items"]
            assert {
                each["address"]: each["circuit"] == "closed" for each in provider["instances"]
            } == {
                urls[0]: False,
                urls[1]: True,
            }
    assert stage.archived() == {("B", each, 1) for each in OBSERVATIONS}
