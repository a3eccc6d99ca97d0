"""One schedule, run: the services of a small orchestra, and what happens to them."""

import asyncio
import contextvars
import hashlib
import logging
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import sqlalchemy as sa

from batuta.conductor import service as conductor_service
from batuta.conductor.service import open_conductor
from batuta.conductor.settings import ConductorSettings
from batuta.errors import BatutaError
from batuta.messaging import subjects
from batuta.pipeline.scheduler import Offer
from batuta.pipeline.service_core import ServiceSpec, open_service
from batuta.pipeline.settings import PipelineSettings
from batuta.sdb.client import SdbClient
from batuta.sdb.service import open_sdb
from batuta.sdb.settings import SdbSettings
from batuta.service import database, health
from batuta.service.client import ServiceError
from batuta.service.database import READ_ONLY
from tests.support.simulation import invariants
from tests.support.simulation.environment import EPOCH_S, replaced
from tests.support.simulation.jetstream import Server
from tests.support.simulation.loop import PROCESS, Process, SimulationLoop, point
from tests.support.simulation.maker import InProcessRunner, pipeline
from tests.support.simulation.network import Network
from tests.support.simulation.noise import publish_noise
from tests.support.simulation.plan import (
    CONDUCTOR,
    MAKER,
    NATS,
    SDB,
    SECOND,
    SENDER,
    Fault,
    Import,
    Plan,
)

LOG: Final = logging.getLogger("batuta.simulation")

PORTS: Final = {SDB: 8001, CONDUCTOR: 8002, SECOND: 8003, MAKER: 5000}
URLS: Final = {name: f"http://127.0.0.1:{port}" for name, port in PORTS.items()}
RESTART_S: Final = 1.0
"""What ends by itself is started again after so long."""
QUIET_S: Final = 10.0
"""How long every schedule lasts at least: all imports are begun by then."""
CHECK_S: Final = 2.0
"""How often it is checked whether all has settled."""
RESEND_S: Final = 3.0
PATIENCE_S: Final = 400.0
"""All must have settled so long after the last fault."""


@dataclass
class Trace:
    """What happened, in order."""

    lines: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """The digest of all of it: the same for the same seed."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()


@dataclass(frozen=True)
class Outcome:
    """How a schedule ended; `violations` is empty if all that must hold does."""

    plan: Plan
    violations: tuple[str, ...]
    trace: Trace
    lasted_s: float
    processings: int
    kills: int


class Orchestra:
    """The services of one schedule, on a clock, a network and disks of their own."""

    def __init__(self, plan: Plan, folder: Path, template: Path, graph: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.trace = Trace()
        self.loop = SimulationLoop(random.Random(f"chance {plan.seed}"))  # noqa: S311
        self.loop.at_point = self._at_point
        self.loop.set_exception_handler(self._on_exception)
        self.network = Network(
            self.loop, self._is_faulty, self._separated, self.note, self._on_defect
        )
        self.server = Server(
            self.loop,
            lambda: EPOCH_S + self.loop.time(),
            self._is_faulty,
            self._separated,
            self.note,
            self.network.delay_s,
        )
        self.acknowledged: list[tuple[Import, int]] = []
        self.violations: list[str] = []
        self.kills = 0
        self._closing = False
        self._graph = graph
        self._began_s = self.loop.time()
        self._processes: dict[str, Process] = {}
        self._all: list[Process] = []
        self._points: Counter[str] = Counter()
        self._seen: Counter[tuple[str, str]] = Counter()
        self._once: dict[tuple[str, str, int], Fault] = {
            (each.kind, each.of, each.nth): each for each in plan.faults if each.nth
        }
        self._sending = len(plan.imports)
        self._skews: Counter[str] = Counter()
        self._away: set[str] = set()
        self._cuts: dict[tuple[str, str], str] = {}
        for name in plan.services:
            self.network.name(PORTS[name], name)
            shutil.copyfile(template, self.database(name))

    def database(self, name: str) -> Path:
        """Return the file of the database of a service; conductors share theirs."""
        return self.folder / f"{CONDUCTOR if name == SECOND else name}.db"

    def note(self, text: str) -> None:
        """Record something that happened."""
        line = f"{self.loop.time() - self._began_s:10.6f} {text}"
        self.trace.lines.append(line)
        LOG.debug("%s", line)

    def run(self) -> Outcome:
        """Run the schedule to its end, and check what must hold."""
        with (
            replaced(self.loop, self.network, self.server, self._skew_s, self.plan.seed),
            self._databases(),
        ):
            asyncio.set_event_loop(self.loop)
            try:
                self.loop.run_until_complete(self._play())
                processings = invariants.count(self)
                self.violations += invariants.violations(self)
                lasted_s = self.loop.time() - self._began_s
                lines = len(self.trace.lines)
                self._closing = True
                self.loop.release(self._all)
            finally:
                asyncio.set_event_loop(None)
                self.loop.close()
        del self.trace.lines[lines:]
        return Outcome(
            plan=self.plan,
            violations=tuple(self.violations),
            trace=self.trace,
            lasted_s=lasted_s,
            processings=processings,
            kills=self.kills,
        )

    # ------------------------------------------------------------------ what is played

    async def _play(self) -> None:
        for name in self.plan.services:
            self._start(name)
        sender = self._new_process(SENDER)
        for each in self.plan.imports:
            self.loop.spawn(sender, self._send(each))
        ends_s = 0.0
        for fault in self.plan.faults:
            ends_s = max(ends_s, fault.at_s + (0 if fault.kind == "clock_jump" else fault.for_s))
            if not fault.nth:
                self.loop.call_later(fault.at_s, self._begin, fault)
        await self._until_settled(max(ends_s, QUIET_S))

    async def _until_settled(self, not_before_s: float) -> None:
        deadline_s = not_before_s + PATIENCE_S
        await asyncio.sleep(not_before_s)
        # Looked at from outside: no service says by itself that nothing is left to be done.
        while unsettled := self._unsettled():
            if self.loop.time() - self._began_s > deadline_s:
                break
            await asyncio.sleep(CHECK_S)
        if unsettled:
            self.violations.append(f"not settled after {PATIENCE_S:g} s: {'; '.join(unsettled)}")

    def _unsettled(self) -> list[str]:
        found = [f"{name} is down" for name in self.plan.services if not self._is_up(name)]
        if self._sending:
            found.append(f"{self._sending} imports are being sent")
        found += [
            f"{stream}: messages wait for their consumer"
            for stream in (subjects.DATA_STREAM, subjects.ACTIVITY_STREAM)
            if not self.server.is_read(stream)
        ]
        return found or invariants.unsettled(self)

    def _is_up(self, name: str) -> bool:
        return self._processes[name].alive and self.network.listens(PORTS[name])

    # ------------------------------------------------------------------ services

    def _new_process(self, name: str) -> Process:
        process = Process(name)
        self._processes[name] = process
        self._all.append(process)
        return process

    def _start(self, name: str) -> None:
        self.note(f"{name} starts")
        process = self._new_process(name)
        self.loop.spawn(process, self._serve(name, process))

    async def _serve(self, name: str, process: Process) -> None:
        """Run a service; if it ends by itself, start it again, as a supervisor does."""
        opened: dict[str, Callable[[], AbstractAsyncContextManager[Any]]] = {
            SDB: self._open_sdb,
            CONDUCTOR: partial(self._open_conductor, CONDUCTOR),
            SECOND: partial(self._open_conductor, SECOND),
            MAKER: self._open_maker,
        }
        try:
            async with opened[name]() as service:
                self.network.listen(PORTS[name], process, service.app)
                await service.run()
        except* (BatutaError, sa.exc.SQLAlchemyError) as group:
            if process.alive and not process.ended:
                self.note(f"{name} ends: {group.exceptions[0]!r:.200}")
        except* Exception as group:  # noqa: BLE001
            # What a service does not expect is a defect of it, whatever follows.
            if process.alive and not self._closing:
                self.violations.append(f"{name} ends by {group.exceptions[0]!r:.300}")
        if process.ended or not process.alive:
            return
        self.network.close(PORTS[name])
        self._end(process, RESTART_S)

    @asynccontextmanager
    async def _open_sdb(self) -> AsyncIterator[Any]:
        settings = SdbSettings(
            database_url=f"sqlite:///{self.database(SDB)}",
            store_url=str(self.folder.parent / "store"),
            quicklook_processes=0,
        )
        async with open_sdb(settings, URLS[SDB]) as service:
            yield service

    @asynccontextmanager
    async def _open_conductor(self, name: str) -> AsyncIterator[Any]:
        settings = ConductorSettings(
            graph=self._graph,
            database_url=f"sqlite:///{self.database(name)}",
            sdb_url=URLS[SDB],
            retry_wait_max_s=8.0,
        )
        async with open_conductor(settings, URLS[name]) as service:
            yield service

    @asynccontextmanager
    async def _open_maker(self) -> AsyncIterator[Any]:
        settings = PipelineSettings(
            data_dir=self.folder,
            database_url=f"sqlite:///{self.database(MAKER)}",
            sdb_url=URLS[SDB],
            max_concurrent=2,
        )
        spec = ServiceSpec(
            name=MAKER,
            description="Makes what a simulation needs.",
            offers={name: Offer(MAKER, each.timeout_s) for name, each in pipeline.products.items()},
            runner=InProcessRunner(URLS[SDB], self.folder, self._is_faulty),
        )
        async with open_service(settings, URLS[MAKER], spec) as service:
            yield service

    async def _send(self, each: Import) -> None:
        """Import an input, again and again until that is acknowledged, as a telescope does."""
        await asyncio.sleep(each.at_s)
        path = self.folder / f"{each.obs_id}-{each.content.replace(' ', '-')}.txt"
        path.write_text(f"{each.obs_id} {each.content}")
        while True:
            try:
                version = await asyncio.to_thread(self._import, each, path)
            except ServiceError as exc:
                self.note(f"{each.product} of {each.obs_id}: {str(exc)[:120]}")
            else:
                self.acknowledged.append((each, version))
                self._sending -= 1
                return
            await asyncio.sleep(RESEND_S)

    @staticmethod
    def _import(each: Import, path: Path) -> int:
        with SdbClient(URLS[SDB], retry_for_s=0) as sdb:
            return sdb.import_file(path, each.product, each.obs_id).version

    # ------------------------------------------------------------------ faults

    def _begin(self, fault: Fault) -> None:
        self.note(f"{fault} begins")
        if fault.kind in {"cut", "partition"}:
            for pair in ((fault.of, fault.other), (fault.other, fault.of)):
                self._cuts[pair] = fault.kind
            self.loop.call_later(fault.for_s, self._reconnect, fault)
        elif fault.kind == "nats_away":
            for name in (*self.plan.services, SENDER):
                self._cuts[name, NATS] = "partition"
            self.loop.call_later(fault.for_s, self._reconnect, fault)
        elif fault.kind == "database_away":
            self._away.add(fault.of)
            self.loop.call_later(fault.for_s, self._away.discard, fault.of)
        elif fault.kind == "pause":
            process = self._processes[fault.of]
            process.is_paused = True
            self.loop.call_later(fault.for_s, self._go_on, process)
        elif fault.kind == "clock_jump":
            self._set_clock(fault.of, fault.for_s)
        elif fault.kind == "clock_wrong":
            self._set_clock(fault.of, fault.by_s)
            self.loop.call_later(fault.for_s, self._set_clock, fault.of, -fault.by_s)
        else:
            publish_noise(self, fault)
        self.server.connections_changed()

    def _set_clock(self, name: str, by_s: float) -> None:
        self.note(f"the clock of {name} is set by {by_s:g} s")
        self._skews[name] += by_s  # type: ignore[assignment]

    def _go_on(self, process: Process) -> None:
        self.note(f"{process} goes on")
        self.loop.resume(process)

    def _reconnect(self, fault: Fault) -> None:
        self.note(f"{fault} ends")
        names = (*self.plan.services, SENDER) if fault.kind == "nats_away" else (fault.of,)
        other = NATS if fault.kind == "nats_away" else fault.other
        for name in names:
            self._cuts.pop((name, other), None)
            self._cuts.pop((other, name), None)
        self.server.connections_changed()

    def _separated(self, one: str, other: str) -> str:
        return self._cuts.get((one, other), "")

    def _is_faulty(self, kind: str, of: str) -> bool:
        self._seen[kind, of] += 1
        fault = self._once.get((kind, of, self._seen[kind, of]))
        if fault is not None:
            self.note(f"{fault}")
        return fault is not None

    def _skew_s(self) -> float:
        process = PROCESS.get()
        return 0.0 if process is None else self._skews[process.name]

    def _at_point(self, kind: str) -> bool:
        process = PROCESS.get()
        if process is None or process.ended:
            return False
        self._points[process.name] += 1
        fault = self._once.get(("kill", process.name, self._points[process.name]))
        if fault is None or not process.alive:
            return False
        self.note(f"{fault} at {kind}")
        self.kills += 1
        self._end(process, fault.for_s)
        return True

    def _end(self, process: Process, back_after_s: float) -> None:
        process.kill()
        for connection in self._connections.pop(process, []):
            connection.close()
        self.loop.call_later(back_after_s, self._start, process.name, context=contextvars.Context())

    @contextmanager
    def _databases(self) -> Iterator[None]:
        """Replace databases: not synced, at times away, killed at a commit if the plan says so."""
        tune, begin = database._tune_sqlite, database._begin_sqlite
        self._connections: dict[Process, list[sqlite3.Connection]] = {}

        def tuned(connection: Any, record: Any) -> None:
            tune(connection, record)
            connection.execute("PRAGMA synchronous = OFF")
            process = PROCESS.get()
            if process is not None:
                self._connections.setdefault(process, []).append(connection)

        def begun(connection: sa.Connection) -> None:
            process = PROCESS.get()
            if process is not None and process.name in self._away:
                reason = sqlite3.OperationalError("disk I/O error")
                raise sa.exc.OperationalError(None, None, reason)
            begin(connection)

        def committing(connection: sa.Connection) -> None:
            if not connection.get_execution_options().get(READ_ONLY):
                point(self.loop, "commit")

        with (
            patch.object(database, "_tune_sqlite", tuned),
            patch.object(database, "_begin_sqlite", begun),
            # Of what is checked for `/health`, nothing follows: a quarter of all that is done.
            patch.object(health, "INTERVAL_S", PATIENCE_S),
            # Nobody asks the conductor: to build its hundred routes takes as long as a schedule.
            patch.object(conductor_service, "add_routes", lambda *_: None),
        ):
            sa.event.listen(sa.Engine, "commit", committing)
            try:
                yield
            finally:
                sa.event.remove(sa.Engine, "commit", committing)

    def _on_exception(self, _loop: object, context: dict[str, Any]) -> None:
        exc = context.get("exception")
        if not self._closing:
            self.violations.append(f"{context['message']}: {exc!r}")

    def _on_defect(self, what: str) -> None:
        self.note(what)
        if not self._closing:
            self.violations.append(what)
