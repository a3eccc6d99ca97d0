"""The orchestra that is under chaos: its processes, disks, clocks, and the network between them."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from batuta.cli.deployment.nats_check import nats_works
from batuta.messaging import NatsConfig
from batuta.messaging.server import server_command
from tests.support.chaos import clock, graph, pipelines
from tests.support.chaos.disk import Disk
from tests.support.chaos.plan import (
    CONDUCTORS,
    NATS,
    POSTGRESQL,
    S3,
    SDB,
    Plan,
    Topology,
)
from tests.support.chaos.processes import Service
from tests.support.chaos.proxy import Link
from tests.support.checkout import PYTHON_PATH
from tests.support.databases import migrated_sqlite
from tests.support.preloading import MISSING
from tests.support.s3_server import S3Server
from tests.support.servers import answers, free_port

SLOTS: Final = "4"
CHECK_S: Final = 0.5
NATS_CHECK_S: Final = 5.0
MAX_RESTART_S: Final = 8.0
START_S: Final = 90.0
NATS_DISK_MB: Final = 1200
"""It reserves what its streams may hold at most."""


@dataclass(frozen=True)
class Servers:
    """Servers that are not ours: nobody kills them, but links to them fail."""

    postgresql_url: str
    postgresql_socket: str
    s3: S3Server


@dataclass
class Orchestra:
    """All of it, as faults and checks see it."""

    plan: Plan
    folder: Path
    database_urls: dict[str, str]
    store_url: str
    store_environment: dict[str, str]
    nats_url: str
    services: dict[str, Service] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    disks: dict[str, Disk] = field(default_factory=dict)
    clocks: dict[str, clock.Clock] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    """The services that have ended by themselves, and why."""
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def topology(self) -> Topology:
        """Who is there, and who speaks to whom."""
        return self.plan.topology

    @property
    def logs(self) -> Path:
        """The folder of the logs of all services."""
        return self.folder / "logs"

    @property
    def runs(self) -> Path:
        """The folder where runs of functions are counted."""
        return self.folder / "runs"

    def url(self, caller: str, called: str) -> str:
        """Return the address by which one reaches another."""
        return f"http://127.0.0.1:{self.links[f'{caller}>{called}'].port}"

    async def stop(self) -> dict[str, int | None]:
        """Ask all to end, none before those that call it; return their exit codes."""
        codes = {}
        for names in (self.topology.conductors, self.topology.pipelines, (SDB,), (NATS,)):
            for name in names:
                self.services[name].is_wanted = False
                self.services[name].signal(signal.SIGTERM)
            for name in names:
                codes[name] = await asyncio.to_thread(self.services[name].wait)
        return codes


@asynccontextmanager
async def open_orchestra(
    plan: Plan, folder: Path, servers: Servers | None
) -> AsyncIterator[Orchestra]:
    """Start everything, and end it all."""
    async with AsyncExitStack() as stack:
        orchestra = _prepared(plan, folder, servers)
        stack.callback(_close, orchestra)
        _open_disks(orchestra)
        _make_clocks(orchestra)
        for caller, called in plan.topology.links:
            link = Link(_target(orchestra, called, servers))
            orchestra.links[f"{caller}>{called}"] = link
            await link.open()
            stack.push_async_callback(link.close)
        _make_services(orchestra, servers)
        await _start(orchestra)
        watching = asyncio.create_task(_watch(orchestra))
        checking = asyncio.create_task(_check_nats(orchestra))
        try:
            yield orchestra
        finally:
            for task in (watching, checking):
                task.cancel()
            await asyncio.gather(watching, checking, return_exceptions=True)


def _prepared(plan: Plan, folder: Path, servers: Servers | None) -> Orchestra:
    ports = {name: free_port() for name in plan.topology.services}
    disks = folder / "disks"
    for name in ("logs", "runs"):
        (folder / name).mkdir(parents=True)
    urls = {name: f"sqlite:///{disks / name / 'records.db'}" for name in plan.topology.services}
    if servers is not None:
        urls |= dict.fromkeys((SDB, *plan.topology.conductors), servers.postgresql_url)
    return Orchestra(
        plan=plan,
        folder=folder,
        database_urls=urls,
        store_url=f"s3://{servers.s3.bucket}/chaos" if servers else str(disks / SDB / "products"),
        store_environment=servers.s3.environment if servers else {},
        nats_url=f"nats://127.0.0.1:{ports[NATS]}",
        ports=ports,
    )


def _close(orchestra: Orchestra) -> None:
    for service in orchestra.services.values():
        service.kill()
    for disk in orchestra.disks.values():
        disk.close()


def _target(orchestra: Orchestra, called: str, servers: Servers | None) -> int | str:
    if servers is not None and called == POSTGRESQL:
        return servers.postgresql_socket
    if servers is not None and called == S3:
        return servers.s3.port
    return orchestra.ports[called]


def _open_disks(orchestra: Orchestra) -> None:
    size = orchestra.plan.size
    for name in orchestra.topology.services:
        size_mb = NATS_DISK_MB if name == NATS else 128 + size.to_make // 20
        disk = Disk(orchestra.folder / "disks" / name, size_mb)
        orchestra.disks[name] = disk
        if disk.problem is not None:
            orchestra.left_out["disk_full"] = disk.problem


def _make_clocks(orchestra: Orchestra) -> None:
    preloaded = clock.build(orchestra.folder)
    if preloaded is None:
        orchestra.left_out["clock_jump"] = MISSING
        return
    for name in orchestra.topology.services:
        orchestra.clocks[name] = clock.Clock(orchestra.folder / f"{name}.clock", preloaded)


def _make_services(orchestra: Orchestra, servers: Servers | None) -> None:
    topology, folder = orchestra.topology, orchestra.folder
    made = graph.products(orchestra.plan.size.products, topology.providers)
    config = folder / "pipelines.json"
    told = {
        "seed": orchestra.plan.seed,
        "products": orchestra.plan.size.products,
        "providers": topology.providers,
        "runs": str(orchestra.runs),
    }
    config.write_text(json.dumps(told))
    urls = {
        provider: [f"{orchestra.url(CONDUCTORS, name)}/pipeline" for name in names]
        for provider, names in topology.instances.items()
    }
    (folder / "graph.json").write_text(json.dumps(graph.document(made, urls), indent=1))
    environment = {pipelines.VARIABLE: str(config), "PYTHONPATH": PYTHON_PATH}
    for name in topology.services:
        command = _command(orchestra, name, servers)
        of_store = dict(orchestra.store_environment) if name == SDB else {}
        if of_store:
            of_store["AWS_ENDPOINT"] = orchestra.url(SDB, S3)
        of_clock = orchestra.clocks[name].environment if name in orchestra.clocks else {}
        orchestra.services[name] = Service(
            name, command, {**environment, **of_store, **of_clock}, orchestra.logs
        )


def _command(orchestra: Orchestra, name: str, servers: Servers | None) -> list[str]:
    disk = orchestra.disks[name].folder
    if name == NATS:
        return server_command(disk / "nats", orchestra.ports[NATS])
    if orchestra.database_urls[name].startswith("sqlite"):
        database = migrated_sqlite(disk / "records.db")
    else:
        # By its socket, a link has no port to be cut at.
        port = orchestra.links[f"{name}>{POSTGRESQL}"].port
        url = sa.make_url(orchestra.database_urls[name])
        through = sa.URL.create("postgresql", url.username, None, "127.0.0.1", port, url.database)
        database = through.render_as_string(hide_password=False)
    options = {
        "port": orchestra.ports[name],
        "nats-url": f"nats://127.0.0.1:{orchestra.links[f'{name}>{NATS}'].port}",
        "database-url": database,
    }
    words = [name]
    if name == SDB:
        scratch = disk / "incoming"
        options |= {"store-url": orchestra.store_url, "scratch-folder": scratch}
    elif name in orchestra.topology.conductors:
        words = ["conductor"]
        options |= {
            "graph": orchestra.folder / "graph.json",
            "sdb-url": orchestra.url(name, SDB),
            "retry-wait-s": 0.2,
            "retry-wait-max-s": 3,
        }
    else:
        provider = next(p for p, of in orchestra.topology.instances.items() if name in of)
        words = ["pipeline", f"{pipelines.__name__}:{provider}"]
        options |= {
            "sdb-url": orchestra.url(name, SDB),
            "data-dir": disk / "data",
            "max-concurrent": SLOTS,
        }
    given = [f"--{key}={value}" for key, value in options.items()]
    return [sys.executable, "-m", "batuta", *words, *given]


async def _start(orchestra: Orchestra) -> None:
    """Start those first that others need when they are new."""
    topology = orchestra.topology
    for names in ((NATS,), (SDB, *topology.pipelines), topology.conductors):
        for name in names:
            orchestra.services[name].start()
        for name in names:
            await _answers(orchestra, name)


async def _answers(orchestra: Orchestra, name: str) -> None:
    service = orchestra.services[name]
    async with asyncio.timeout(START_S):
        while not answers(orchestra.ports[name]):
            if not service.is_running:
                raise AssertionError(f"{name} did not start: {service.last_line()}")
            await asyncio.sleep(0.05)


async def _watch(orchestra: Orchestra) -> None:
    """Start again what ends by itself, as `batuta up` does."""
    waits_s = dict.fromkeys(orchestra.services, CHECK_S)
    loop = asyncio.get_running_loop()
    due: dict[str, float] = {}
    while True:
        await asyncio.sleep(CHECK_S)
        for name, service in orchestra.services.items():
            if not service.is_wanted or service.is_running:
                due.pop(name, None)
                continue
            if name not in due:
                orchestra.ended.append(f"{name}: {service.exit_code}: {service.last_line()}")
                due[name] = loop.time() + waits_s[name]
                waits_s[name] = min(2 * waits_s[name], MAX_RESTART_S)
            elif loop.time() >= due[name]:
                del due[name]
                service.start()


async def _check_nats(orchestra: Orchestra) -> None:
    """Restart NATS once its disk was full, as `batuta up` does: it stores nothing more."""
    service = orchestra.services[NATS]
    config = NatsConfig(url=orchestra.nats_url)
    sdb_url = f"http://127.0.0.1:{orchestra.ports[SDB]}"
    failed = 0
    while True:
        await asyncio.sleep(NATS_CHECK_S)
        folder = orchestra.disks[NATS].folder
        works = not service.is_running or await nats_works(config, folder, sdb_url)
        failed = 0 if works else failed + 1
        if failed > 1 and service.is_wanted:
            failed = 0
            orchestra.ended.append(f"{NATS}: stored nothing more, restarted")
            service.kill()
            service.start()
