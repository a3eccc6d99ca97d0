"""The services, each a process of its own, on free ports and in one folder."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from batuta.conductor import ConductorSettings
from batuta.messaging.server import server_answers, server_command
from batuta.sdb import SdbSettings
from batuta.service.sockets import listen

_SERVE: Final = """
import sys
from batuta.{module} import {settings}, run
run({settings}.model_validate_json(sys.argv[1]))
"""


@dataclass(frozen=True, kw_only=True)
class Orchestra:
    """The addresses of what runs, and the conductor's database."""

    nats_url: str
    sdb_url: str
    conductor_url: str
    database: Path


@contextmanager
def nats_server(folder: Path) -> Iterator[str]:
    """Run a NATS server that syncs each message, as `batuta` starts it."""
    with listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
    command = server_command(folder / "nats", port, name="bench")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            while not asyncio.run(server_answers("127.0.0.1", port, "bench")):
                time.sleep(0.05)
            yield f"nats://127.0.0.1:{port}"
        finally:
            server.terminate()


@contextmanager
def program(command: Sequence[str], log: Path) -> Iterator[str]:
    """Run a program whose first line ends with its address, until the block ends."""
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout is not None  # noqa: S101  it is a pipe
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{command[:4]} did not start:\n{log.read_text()}")
            yield line.split()[-1]
        finally:
            process.terminate()


@contextmanager
def sdb(folder: Path, nats_url: str) -> Iterator[str]:
    """Run an sdb."""
    settings = SdbSettings(
        port=0,
        nats_url=nats_url,
        database_url=f"sqlite:///{folder / 'sdb.db'}",
        store_url=str(folder / "products"),
        scratch_folder=folder / "incoming",
    )
    code = _SERVE.format(module="sdb", settings="SdbSettings")
    command = [sys.executable, "-c", code, settings.model_dump_json()]
    with program(command, folder / "sdb.log") as url:
        yield url


@contextmanager
def conductor(folder: Path, nats_url: str, sdb_url: str, graph: Mapping[str, Any]) -> Iterator[str]:
    """Run a conductor of `graph`, its database in ``conductor.db``."""
    path = folder / "graph.json"
    path.write_text(json.dumps(graph))
    settings = ConductorSettings(
        port=0,
        nats_url=nats_url,
        graph=path,
        sdb_url=sdb_url,
        database_url=f"sqlite:///{folder / 'conductor.db'}",
    )
    code = _SERVE.format(module="conductor", settings="ConductorSettings")
    command = [sys.executable, "-c", code, settings.model_dump_json()]
    with program(command, folder / "conductor.log") as url:
        yield url


@contextmanager
def orchestra(folder: Path, nats_url: str, graph: Mapping[str, Any]) -> Iterator[Orchestra]:
    """Run an sdb and a conductor of `graph` on a NATS that runs."""
    with ExitStack() as stack:
        sdb_url = stack.enter_context(sdb(folder, nats_url))
        url = stack.enter_context(conductor(folder, nats_url, sdb_url, graph))
        yield Orchestra(
            nats_url=nats_url,
            sdb_url=sdb_url,
            conductor_url=url,
            database=folder / "conductor.db",
        )


KIT: Final = "kit"


def levels(url: str, depth: int, provider: str | None = None) -> dict[str, Any]:
    """Return a graph of `depth` products, each made of the one before; the input is ``L0``.

    Without `provider`, each has one of its own, below `url`.
    """
    products = {
        f"L{level}": {
            "m_input": [f"L{level - 1}"],
            "o_input": [],
            "provider": provider or f"maker{level}",
            "url": url if provider else f"{url}/maker{level}",
        }
        for level in range(1, depth + 1)
    }
    return {"inputs": ["L0", "OTHER"], "products": products}


_NAMES: Final = {
    "nats-server": "NATS",
    "SdbSettings": "sdb",
    "ConductorSettings": "conductor",
    "orchestra.support.maker": "makers",
    "orchestra.support.bare_loop": "bare loop",
    "orchestra.support.kit": "pipelines",
}


def processor_s() -> dict[str, float]:
    """Return the processor time that each process started here has used, with its children."""
    used: dict[str, float] = {}
    for process in psutil.Process().children():
        command = " ".join(process.cmdline())
        for sign, name in _NAMES.items():
            if sign in command:
                used[name] = sum(process.cpu_times()[:4])
    return used
