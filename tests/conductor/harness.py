"""A conductor's ledger on any database, with a clock that the test sets."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from batuta.conductor.campaign_runner import CampaignDatabase, open_campaigns
from batuta.conductor.database.claiming.claims import ClaimStore
from batuta.conductor.database.graphs.graph_versions import GraphVersions, open_current_graph
from batuta.conductor.database.holds.hold_store import Wanted
from batuta.conductor.database.ledger import Ledger
from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.requests.slots import Capacity
from batuta.conductor.database.schema import MIGRATIONS
from batuta.conductor.database.views.observations import Views
from batuta.conductor.decisions.events import Archived, Event, StatusUpdate
from batuta.conductor.decisions.holds import Hold, Scope
from batuta.conductor.decisions.outcomes import HeardEvent
from batuta.conductor.decisions.processing_record import WaitConfig
from batuta.conductor.decisions.requests import Poll
from batuta.conductor.decisions.rules import Arrival
from batuta.conductor.hold_watch import HoldWatch
from batuta.graph import Graph
from batuta.messaging import ProcessingState as State
from batuta.service.database import open_database
from batuta.service.operators import Operator
from batuta.service.schema_version import ENVIRONMENT
from batuta.testing import FakeClock

T = TypeVar("T")

UNLIMITED = Capacity(total=1000)
NOTHING = Capacity(total=0)


class Harness:
    """A ledger with its clock and its views."""

    def __init__(self, url: str, graph: Graph) -> None:
        self.clock = FakeClock()
        self.graph = graph
        self._opened = open_database(url, MIGRATIONS)
        self.engine = self._opened.__enter__()
        self.restart()

    def restart(self) -> None:
        """Forget all that is not in the database, as a conductor that was killed does."""
        self.current, _ = open_current_graph(self.engine, self.graph, "graph.json", self.clock)
        self.versions = GraphVersions(self.engine, self.current, self.clock)
        self.ledger = Ledger(self.engine, self.current, WaitConfig(), self.clock)
        self.campaigns = self.open_campaigns()
        self.views = Views(self.engine, self.current, "http://{}/pipeline".format)

    def open_campaigns(self) -> CampaignDatabase:
        """Return the campaigns as a conductor has them that was just started."""
        return open_campaigns(self.engine, self.current, ClaimStore(self.current), self.clock)

    def close(self) -> None:
        self._opened.__exit__(None, None, None)

    def hold(self, provider: str | None = None, **scope: Any) -> Hold:
        """Hold a provider, or what else is said, or all, as the conductor does."""
        begins, by = scope.pop("begins", None), Operator(scope.pop("by", "ana"))
        wanted = Wanted(
            scope=Scope(provider=provider, **scope), by=by, reason="mended", begins=begins
        )
        hold = self.ledger.holds.place(wanted)
        self.carry_out_holds()
        return hold

    def release(self, provider: str | None = None, rate: str | None = None, **scope: Any) -> None:
        """Release the holds of just that, as the conductor does."""
        named = Scope(provider=provider, **scope)
        for each in self.ledger.holds.open_holds():
            if each.scope == named and not each.pause:
                self.ledger.holds.release(each.number, Operator("bob"), rate)
        self.carry_out_holds()

    def carry_out_holds(self) -> float:
        """Do what is to be done for holds by now; return when something is next."""

        async def write(work: Callable[..., T], *args: Any) -> T:
            return work(*args)

        watch = HoldWatch(self.ledger.holds, write, lambda: None, lambda *_: None)
        return asyncio.run(watch.carry_out())

    def on_data(self, *arrivals: tuple[str, str, int]) -> list[DueRequest]:
        return self.take([Arrival(*arrival) for arrival in arrivals], UNLIMITED)

    def take(
        self, arrivals: Sequence[Arrival], capacity: Capacity, heard: Sequence[HeardEvent] = ()
    ) -> list[DueRequest]:
        requests, _ended = self.ledger.on_data(arrivals, [], capacity, heard)
        return requests

    def take_made(self, arrivals: Sequence[Arrival], made: Sequence[Archived]) -> list[DueRequest]:
        requests, _ended = self.ledger.on_data(arrivals, made, UNLIMITED)
        return requests

    def make(self, request: DueRequest, product: str, version: int) -> list[DueRequest]:
        """Announce what a request has made, as the sdb does."""
        made = Archived(
            processing_id=request.processing_id,
            product=product,
            obs_id=request.obs_id,
            provider=request.provider,
            made_in=request.attempt,
        )
        arrival = Arrival(product, request.obs_id, version, archived=True)
        return self.take_made([arrival], [made])

    def take_due(self) -> list[DueRequest]:
        return self.ledger.take_due(UNLIMITED)

    def due(self) -> list[str]:
        return [request.product for request in self.take_due()]

    def due_for_polling(self, capacity: Capacity) -> list[Poll]:
        return self.ledger.advance([], NOTHING, capacity).polls

    def report(self, request: DueRequest, state: State, **values: object) -> None:
        """Apply what the pipeline reports of a request."""
        update = {"attempt": request.attempt, "archived": state is State.SUCCEEDED, **values}
        self.apply(StatusUpdate(processing_id=request.processing_id, state=state, **update))  # type: ignore[arg-type]  # values of several types

    def apply(self, event: Event) -> None:
        self.ledger.apply([event])

    def state(self, request: DueRequest) -> State:
        found = self.views.processing(request.processing_id)
        assert found is not None
        return found.state

    def error(self, request: DueRequest) -> str | None:
        found = self.views.processing(request.processing_id)
        assert found is not None
        return found.error


OpenLedger = Callable[[Graph], Harness]


def migrate_to(revision: str, engine: sa.Engine) -> None:
    """Make the tables of an earlier version of the conductor."""
    config = Config()
    config.set_main_option("script_location", str(ENVIRONMENT))
    config.set_main_option("version_locations", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes.update(connection=connection, version_table="alembic_conductor")
        command.upgrade(config, revision)
