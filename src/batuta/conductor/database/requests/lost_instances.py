"""What was sent to an instance that is lost, in the database."""

from typing import Final

import sqlalchemy as sa

from batuta.conductor.database.current_graph import CurrentGraph, ReadsGraph
from batuta.conductor.database.requests.circuit_store import CircuitStore
from batuta.conductor.database.schema import LISTED
from batuta.conductor.database.schema import processings as table
from batuta.conductor.database.statements import AT_INSTANCE
from batuta.conductor.decisions.circuits import LOST_AFTER_S, Circuit, lost_at
from batuta.conductor.decisions.events import InstanceLost, Interface
from batuta.graph import Graph
from batuta.messaging.processings import instant_of

MAX_LOST: Final = 1000
"""Processings that are given up in one transaction; the others in the next ones."""
RECENT: Final = 100
"""Processings of a provider that are looked at for what it has shown of the interface."""

_recent: Final = (
    sa.select(table.c.interface)
    .where(table.c.provider == sa.bindparam("provider"), sa.text(LISTED))
    .order_by(table.c.created.desc(), table.c.id.desc())
    .limit(RECENT)
    .subquery()
)
COUNTS_ATTEMPTS: Final = (
    sa.select(_recent.c.interface).where(_recent.c.interface == Interface.ATTEMPTS.value).limit(1)
)
"""Whether a provider counts attempts, as its newest processings show."""

LOST_AT: Final = AT_INSTANCE.where(
    sa.or_(sa.bindparam("all", type_=sa.Boolean), table.c.interface == Interface.ATTEMPTS.value)
)
"""Those at an instance that are given up with it."""


class InstanceStore(ReadsGraph):
    """Gives up what was sent to instances that have not answered for too long.

    Parameters
    ----------
    graph : Graph
        The product graph: after how long.
    circuits : CircuitStore
        How long each has not answered.
    """

    def __init__(self, graph: Graph | CurrentGraph, circuits: CircuitStore) -> None:
        super().__init__(graph)
        self._circuits = circuits

    def due_at(self, now: float) -> float | None:
        """Return when an instance may be asked again, or is to be taken for lost."""
        lost = [self._lost_at(each) for each in self._circuits.known]
        times = [self._circuits.due_at(now), *lost]
        return min((each for each in times if each is not None and each > now), default=None)

    def lose(self, connection: sa.Connection, now: float) -> list[InstanceLost]:
        """Record which instances are lost by now; return what that means for what is there."""
        events: list[InstanceLost] = []
        for circuit in self._circuits.known:
            at = self._lost_at(circuit)
            if at is None or at > now:
                continue
            found = self._given_up(connection, circuit)
            events += found
            if len(found) < MAX_LOST:
                self._circuits.lose(connection, circuit.key, now)
        return events

    def recognises(self, connection: sa.Connection, provider: str) -> bool:
        """Return whether a provider recognises a repeated request, or is sent it all the same."""
        return self._stated(provider) is not None or bool(
            connection.scalar(COUNTS_ATTEMPTS, {"provider": provider})
        )

    def _lost_at(self, circuit: Circuit) -> float | None:
        return lost_at(circuit, self._stated(circuit.provider) or LOST_AFTER_S)

    def _stated(self, provider: str) -> float | None:
        known = self._graph.providers.get(provider)
        return None if known is None else known.lost_after_s

    def _given_up(self, connection: sa.Connection, circuit: Circuit) -> list[InstanceLost]:
        provider = circuit.provider
        recognised = self.recognises(connection, provider)
        wanted = {
            "provider": provider,
            "places": self._circuits.places_of(circuit.key),
            "all": recognised,
            "at_most": MAX_LOST,
        }
        rows = connection.execute(LOST_AT, wanted).all()
        since = instant_of(circuit.unanswered_since or 0.0)
        return [
            InstanceLost(
                processing_id=row.id,
                asked_attempt=row.attempt,
                error=f"lost: {provider} at {circuit.instance} has not answered since "
                f"{since:%Y-%m-%d %H:%M:%S}",
                recognised=recognised,
            )
            for row in rows
        ]
