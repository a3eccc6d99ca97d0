"""What the conductor and the sdb are asked for every few seconds: what no event tells whole."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from batuta.dashboard.live_model import LiveModel
from batuta.dashboard.nats_watch import CHECKED_S, NatsWatch
from batuta.dashboard.records import GraphVersionsPage, MatrixPage, MatrixRow
from batuta.graph import Graph, GraphError
from batuta.messaging import Bus
from batuta.service.client import ServiceError
from batuta.service.http_pool import HttpPool
from batuta.validation import statement_of

M = TypeVar("M", bound=BaseModel)

WATCHED_S: Final = 1.5
"""How often they are asked while somebody watches, in seconds."""
UNWATCHED_S: Final = 15.0
FIRST_RELOADED_S: Final = 4.0
"""When observations are compared with the conductor's records again, after a start or a cut: what
was announced just before may not have been recorded yet. Then twice as late each time, up to"""
RELOADED_S: Final = 120.0
LEFT_S: Final = 3.0
"""When those are compared again of which more was heard meanwhile, in seconds."""
MAX_ANSWER_BYTES: Final = 64 * 2**20
MAX_WAIT_S: Final = 10.0
PAGE_ITEMS: Final = 1000
MAX_PAGES: Final = 5


@dataclass(frozen=True)
class Addresses:
    """Where the services are."""

    conductor: str
    sdb: str


_ASKED: Final[Mapping[str, str]] = {
    "health/conductor": "/health",
    "summary": "/summary",
    "late": "/late?limit=100",
    "holds": "/holds",
    "providers": "/providers",
    "approvals": "/approvals?limit=100",
    "campaigns": "/campaigns?limit=20",
}
"""What the conductor is asked for, by the key of the table that has the answer."""
_DEAD: Final = "/dead?limit=1"
"""What the conductor has to ask NATS for."""


def _nobody() -> bool:
    return False


class Poller:
    """Keeps the parts of a table up to date that are asked for.

    ``asked/NAME`` of the table is when a service last answered, and what was wrong since:
    ``{"t": seconds since 1970, "problem": text or null}``.

    Parameters
    ----------
    model : LiveModel
        What is kept up to date.
    pool : HttpPool
        By which services are called.
    addresses : Addresses
        Where they are.
    bus : Bus
        The connection to NATS.
    """

    def __init__(self, model: LiveModel, pool: HttpPool, addresses: Addresses, bus: Bus) -> None:
        self._model = model
        self._table = model.table
        self._pool = pool
        self._addresses = addresses
        self._nats = NatsWatch(bus)
        self._graph_number: int | None = None
        self._reload_at = 0.0
        self._reload_after_s = FIRST_RELOADED_S
        self.wanted = asyncio.Event()
        """Set when somebody begins to watch: nobody is to wait for the next time."""
        self.is_watched: Callable[[], bool] = _nobody

    async def run(self) -> None:
        """Ask until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ask_services())
            group.create_task(self._follow_nats())

    async def _ask_services(self) -> None:
        while True:
            await asyncio.gather(self._ask_conductor(), self._ask_sdb())
            pause_s = WATCHED_S if self.is_watched() else UNWATCHED_S
            try:
                async with asyncio.timeout(pause_s):
                    await self.wanted.wait()
                self.wanted.clear()
                await asyncio.sleep(0.2)
            except TimeoutError:
                continue

    async def _ask_conductor(self) -> None:
        try:
            for key, path in _ASKED.items():
                self._table.set(key, await self._get("conductor", path))
            if self._hears_nats():
                self._table.set("dead", await self._get("conductor", _DEAD))
            await self._follow_graph()
            await self._load_observations()
        except ServiceError as exc:
            self._failed("conductor", str(exc))
        else:
            self._answered("conductor")

    async def _ask_sdb(self) -> None:
        try:
            self._table.set("health/sdb", await self._get("sdb", "/health"))
        except ServiceError as exc:
            self._failed("sdb", str(exc))
        else:
            self._answered("sdb")

    async def _follow_nats(self) -> None:
        """Note whether NATS answers: apart from services, whose answers may take long."""
        reconnections, was_up = self._nats.reconnections, True
        try:
            while True:
                problem = await self._nats.problem()
                is_up = problem is None
                if problem is not None:
                    self._failed("nats", problem)
                elif not was_up or reconnections != self._nats.reconnections:
                    reconnections = self._nats.reconnections
                    self._reload_soon()  # what happened meanwhile was not heard
                    self.wanted.set()
                if is_up:
                    self._answered("nats")
                was_up = is_up
                await asyncio.sleep(CHECKED_S)
        finally:
            self._nats.close()

    async def _follow_graph(self) -> None:
        newest = await self._read(GraphVersionsPage, "/graph/versions?limit=1")
        number = newest.items[0].number if newest.items else 0
        if number == self._graph_number:
            return
        document = await self._get("conductor", "/graph")
        try:
            graph = Graph.parse(document, "the conductor's graph")
        except GraphError as exc:
            raise ServiceError(f"conductor: its graph is not understood here: {exc}") from exc
        self._model.replace_graph(graph, number)
        self._graph_number = number
        self._reload_soon()

    def _reload_soon(self) -> None:
        self._reload_at = 0.0
        self._reload_after_s = FIRST_RELOADED_S

    async def _load_observations(self) -> None:
        if time.monotonic() < self._reload_at:
            return
        asked_at = self._model.heard
        rows: list[MatrixRow] = []
        cursor = ""
        for _ in range(MAX_PAGES):
            page = await self._read(MatrixPage, f"/matrix?limit={PAGE_ITEMS}{cursor}")
            rows += page.items
            if page.next is None:
                break
            cursor = f"&cursor={quote(page.next, safe='')}"
        left = self._model.load(rows, asked_at)
        self._reload_at = time.monotonic() + (LEFT_S if left else self._reload_after_s)
        self._reload_after_s = min(2 * self._reload_after_s, RELOADED_S)

    async def _read(self, model: type[M], path: str) -> M:
        """Ask the conductor; return its answer as `model`."""
        answer = await self._get("conductor", path)
        try:
            return model.model_validate(answer)
        except ValidationError as exc:
            first = exc.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ServiceError(
                f"conductor: the answer of {path} is not understood: {place}: {statement_of(first)}"
            ) from exc

    async def _get(self, service: str, path: str) -> Any:
        base = self._addresses.conductor if service == "conductor" else self._addresses.sdb
        answer = await self._pool.send(
            service, "GET", base + path, max_bytes=MAX_ANSWER_BYTES, max_s=MAX_WAIT_S
        )
        try:
            # Viewers are sent what is answered, and browsers know no NaN in JSON.
            return from_json(answer.content, allow_inf_nan=False)
        except ValueError as exc:
            raise ServiceError(f"{service}: the answer of {path} is not JSON: {exc}") from exc

    def _hears_nats(self) -> bool:
        return (self._table.get("asked/nats") or {"problem": None})["problem"] is None

    def _answered(self, service: str) -> None:
        self._table.set(f"asked/{service}", {"t": round(time.time(), 1), "problem": None})

    def _failed(self, service: str, problem: str) -> None:
        before = self._table.get(f"asked/{service}") or {"t": None}
        self._table.set(f"asked/{service}", {"t": before["t"], "problem": problem})
