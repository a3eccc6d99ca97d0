"""Pipelines that others wrote, and the one of the page for their authors, in one orchestra."""

import os
import re
import shutil
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from batuta.conductor.service import open_conductor
from batuta.graph import Graph
from batuta.sdb import SdbClient
from batuta.service.settings import ServiceSettings
from tests.conductor.graphs import graph_of
from tests.conductor.stage import Stage, get, states
from tests.support.foreign import KINDS, ForeignPipelines
from tests.support.services import ServiceProcess, serving
from tests.support.waiting import eventually_sync

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "any-pipeline.md"
OBSERVATIONS: Final = [f"o{number}" for number in range(6)]
ONE_IN_FIVE: Final = """#!/usr/bin/env bash
exec 9>"$COUNT.lock"; flock 9
n=$(($(cat "$COUNT" 2>/dev/null) + 1)); echo $n >"$COUNT"; flock -u 9
[ $((n % 5)) != 3 ] && exec /usr/bin/env PATH="$REAL_PATH" awk "$@"
"""


def script_of_the_page() -> str:
    """The pipeline in shell, as the page has it."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (script,) = (each for each in blocks if each.startswith("#!/usr/bin/env bash"))
    return str(script)


@contextmanager
def shell_pipeline(folder: Path, sdb_url: str) -> Iterator[str]:
    """Serve the page's pipeline; one in five of what it computes fails."""
    folder.mkdir()
    script = folder / "quicklook.sh"
    failing = folder / "bin" / "awk"
    failing.parent.mkdir()
    for path, text in ((script, script_of_the_page()), (failing, ONE_IN_FIVE)):
        path.write_text(text)
        path.chmod(0o755)
    environment = {
        **os.environ,
        "SDB_URL": sdb_url,
        "COUNT": str(folder / "count"),
        "REAL_PATH": os.environ["PATH"],
        "PATH": f"{failing.parent}:{os.environ['PATH']}",
    }
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        port = listening.getsockname()[1]
        serve = threading.Thread(
            target=_start_for_each_request, args=(listening, script, environment), daemon=True
        )
        serve.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            serve.join()


def _start_for_each_request(
    listening: socket.socket, script: Path, environment: dict[str, str]
) -> None:
    """Do what `socat TCP-LISTEN:...,fork EXEC:...` does, on machines that have none."""
    started: list[subprocess.Popen[bytes]] = []
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:  # shut down
            break
        with connection:
            started.append(
                subprocess.Popen(
                    [script],
                    cwd=script.parent,
                    env=environment,
                    stdin=connection.fileno(),
                    stdout=connection.fileno(),
                )
            )
    for each in started:
        each.wait()


def foreign_graph(url: str, shell_url: str) -> Graph:
    products: dict[str, dict[str, object]] = {
        kind: {"m_input": ["READINGS"], "provider": kind, "url": f"{url}/{kind}", "timeout": 10}
        for kind in KINDS
    }
    products["shell"] = {"m_input": ["READINGS"], "provider": "shell", "url": shell_url}
    return graph_of(["READINGS"], products, {"calls_back": {"callback": True}})


def archived_versions(sdb_url: str) -> Counter[str]:
    """How many versions of each product the sdb holds, by product and observation."""
    with SdbClient(sdb_url) as sdb:
        found = [stored for stored in sdb.list() if stored.product != "READINGS"]
    return Counter(f"{stored.product}/{stored.obs_id}" for stored in found)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl: apt-get install curl")
def test_any_pipeline_has_each_product_archived_once_when_one_in_five_fails(
    stage: Stage, tmp_path: Path
) -> None:
    """The conductor is killed while they work, and started again."""
    foreign = ForeignPipelines()
    foreign.archive = stage.archive
    with (
        serving(foreign.open, ServiceSettings(port=0)) as url,
        shell_pipeline(tmp_path / "shell", stage.sdb_url) as shell_url,
    ):
        settings = stage.settings(foreign_graph(url, shell_url), provider_urls={})
        stage.conductor = ServiceProcess("batuta.conductor:run", settings)
        stage.conductor.start()
        for obs_id in OBSERVATIONS:
            stage.archive("READINGS", obs_id)
        eventually_sync(lambda: len(archived_versions(stage.sdb_url)) > len(KINDS))
        stage.conductor.kill()
        conductor = stage.conductor.start()
        expected = {
            f"{product}/{obs_id}": "succeeded"
            for product in (*KINDS, "shell")
            for obs_id in OBSERVATIONS
        }
        eventually_sync(lambda: states(conductor) == expected, timeout_s=100)
    assert archived_versions(stage.sdb_url) == Counter(dict.fromkeys(expected, 1))
    # Nothing was started again but what had failed.
    for kind in KINDS:
        assert foreign.started[kind] == len(OBSERVATIONS) + foreign.failed[kind], kind
        assert foreign.failed[kind] >= 1, kind


def test_a_callback_is_believed_only_from_its_address_and_if_the_sdb_agrees(stage: Stage) -> None:
    graph = graph_of(["A"], {"B": {"m_input": ["A"]}}, {"maker": {"callback": True}})
    stage.pipeline.outcomes["B"].extend(["running"])
    token = "0123456789abcdef0123"  # noqa: S105  of this test
    headers = {"Authorization": f"Bearer {token}"}
    with serving(open_conductor, stage.settings(graph, token=token)) as url:
        stage.announce("A", "o1")
        (request,) = eventually_sync(lambda: stage.pipeline.requests)
        uris = request["subscriber"]
        assert uris["successUri"].startswith(url)

        def state() -> str:
            answer = httpx.get(f"{url}/processings", headers=headers).raise_for_status()
            return str(answer.json()["items"][0]["state"])

        eventually_sync(lambda: state() == "running")
        forged = uris["failedUri"].replace("/1/", "/2/")
        for other in (forged, f"{uris['failedUri']}s", f"{url}/callbacks/x/1/y/failed"):
            assert httpx.post(other).status_code == 404
        assert httpx.get(f"{url}/processings").status_code == 401
        assert httpx.post(uris["successUri"]).status_code == 204
        assert state() == "running"  # the sdb does not hold it
        progress = httpx.post(uris["inProgressUri"], json={"status": "running", "progress": 40})
        assert progress.status_code == 204
        found = httpx.get(f"{url}/processings", headers=headers).json()["items"][0]
        assert found["progress"] == {"done": 40, "total": 100}
        stage.archive("B", "o1", request["processing_id"])
        assert httpx.post(uris["successUri"]).status_code == 204
        eventually_sync(lambda: state() == "succeeded")
        assert httpx.post(uris["failedUri"]).status_code == 204
        assert state() == "succeeded"


def test_what_the_sdb_has_announced_is_not_asked_of_pipelines(stage: Stage) -> None:
    foreign = ForeignPipelines()
    foreign.archive = stage.archive
    with serving(foreign.open, ServiceSettings(port=0)) as url:
        own: dict[str, object] = {
            "m_input": ["A"],
            "provider": "own_ids",
            "url": f"{url}/own_ids",
        }
        graph = graph_of(["A"], {"B": own})
        settings = stage.settings(graph, provider_urls={}, ask_after_s=3)
        with serving(open_conductor, settings) as conductor:
            stage.announce("A", *OBSERVATIONS[:2])
            eventually_sync(lambda: set(states(conductor).values()) == {"succeeded"})

            def ids() -> set[str | None]:
                items = get(conductor, "/processings")["items"]
                return {each["pipeline_id"] for each in items}

            # Its answer may be recorded after what it imported was announced.
            eventually_sync(lambda: ids() == {"1", "2"})
    assert foreign.asked["own_ids"] == 0
