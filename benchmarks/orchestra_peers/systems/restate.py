"""Restate: one server with the durability of its defaults, and a service of its Python SDK.

Appends to its log are synced to the disk (``log-server.rocksdb-disable-wal-fsync = false``). The
service is a workflow, served by hypercorn over HTTP/2: of three ``ctx.run`` steps, or of a call of
another service for each product, as is needed where others make them.
"""

import json
import platform
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.orchestra_peers.processes import LOOPBACK, free_ports, program, running
from benchmarks.orchestra_peers.systems import http
from benchmarks.orchestra_peers.systems.contract import Place, Started, System

MODULES: Final = Path(sys.prefix) / "node_modules"
NO_LIMIT: Final = 2**31 - 1


def _server() -> str:
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    package = f"restate-server-{platform.system().lower()}-{machine}"
    return str(MODULES / "@restatedev" / package / "bin" / "restate-server")


def _version() -> str:
    printed = subprocess.run(
        [_server(), "--version"], check=True, capture_output=True, text=True
    ).stdout
    return printed.split()[-1]


@asynccontextmanager
async def _start(workflow: str, place: Place) -> AsyncIterator[Started]:
    node, ingress, admin, service = free_ports(4)
    place.folder.joinpath("restate.toml").write_text(
        f"""
base-dir = {json.dumps(str(place.folder / "restate"))}
node-name = "bench"
listen-mode = "tcp"
bind-ip = "{LOOPBACK}"
bind-port = {node}
disable-telemetry = true
shutdown-timeout = "2s"
[ingress]
bind-port = {ingress}
[admin]
bind-port = {admin}
"""
    )
    # As the examples of the SDK serve it: hypercorn's own limits would close its connections.
    place.folder.joinpath("hypercorn.toml").write_text(
        f"""
bind = "{LOOPBACK}:{service}"
h2_max_concurrent_streams = {NO_LIMIT}
keep_alive_max_requests = {NO_LIMIT}
keep_alive_timeout = {NO_LIMIT}
"""
    )
    server = [_server(), "--config-file", str(place.folder / "restate.toml"), "--no-logo"]
    worker = [
        program("hypercorn"),
        "--config",
        str(place.folder / "hypercorn.toml"),
        "benchmarks.orchestra_peers.workers.restate_service:app",
    ]
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(http.client())
        served = await stack.enter_async_context(
            running(server, place.folder / "restate.log", place.environment)
        )
        serving = await stack.enter_async_context(
            running(worker, place.folder / "service.log", place.environment)
        )
        await served.until(partial(http.answers, client, f"http://{LOOPBACK}:{admin}/health"))
        await served.until(
            partial(http.answers, client, f"http://{LOOPBACK}:{ingress}/restate/health")
        )
        await serving.until(partial(http.answers, client, f"http://{LOOPBACK}:{service}/health"))
        deployment = {"uri": f"http://{LOOPBACK}:{service}"}
        await http.post(client, f"http://{LOOPBACK}:{admin}/deployments", deployment)

        async def announce(obs_id: str) -> None:
            url = f"http://{LOOPBACK}:{ingress}/{workflow}/{obs_id}/run/send"
            await http.post(client, url, obs_id)

        yield Started(announce, place.files_written)


STEPS = System(name="Restate", version=_version, start=partial(_start, "steps"))
CALLS = System(
    name="Restate", how="a service call a product", version=_version, start=partial(_start, "calls")
)
