"""Writing down what is available and what is claimed from it, inside a transaction."""

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.rules import Arrival, Claim, claims_for, on_their_way
from batuta.conductor.schema import EVERY_PROVIDER, PENDING, available, holds
from batuta.conductor.schema import processings as table
from batuta.graph import Graph, Product
from batuta.messaging import ProcessingState as State
from batuta.service.database import insert

BY_HAND: Final = "by hand"
"""How the claims that persons make begin: as many as they ask for."""

MAX_AT_ONCE: Final = 500
"""Values in one ``IN``: databases have a limit."""


class ClaimDesk:
    """Records availability and claims; every method works in the transaction that it is given.

    Parameters
    ----------
    graph : Graph
        The product graph.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def lock(self, connection: sa.Connection, observations: Collection[str]) -> None:
        """Let no other conductor decide for the same observations meanwhile.

        Two that each hear of one of a product's two inputs, and do not see the other's yet,
        would both find it not ready. SQLite has one writer at a time: nothing to do.
        """
        if connection.dialect.name == "postgresql":
            for obs_id in sorted(observations):
                connection.execute(
                    sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:obs_id, 42))"),
                    {"obs_id": obs_id},
                )

    def lock_places(self, connection: sa.Connection) -> None:
        """Let no other conductor take places meanwhile: both would count the same ones free."""
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(1618033988)"))

    def learn(self, connection: sa.Connection, arrivals: Sequence[Arrival], now: float) -> None:
        """Record that products are available; of several versions, the newest."""
        newest: dict[tuple[str, str], int] = {}
        for arrival in arrivals:
            key = (arrival.obs_id, arrival.product)
            newest[key] = max(arrival.version, newest.get(key, 0))
        if not newest:
            return
        statement = insert(connection, available)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["obs_id", "product"],
                set_={
                    "version": statement.excluded.version,
                    "heard": statement.excluded.heard,
                },
                where=available.c.version < statement.excluded.version,
            ),
            [
                {"obs_id": obs_id, "product": product, "version": version, "heard": now}
                for (obs_id, product), version in newest.items()
            ],
        )

    def claim(self, connection: sa.Connection, arrivals: Sequence[Arrival], now: float) -> None:
        """Claim all that can be made now that `arrivals` are recorded."""
        arrived: defaultdict[str, set[str]] = defaultdict(set)
        for arrival in arrivals:
            arrived[arrival.obs_id].add(arrival.product)
        there = self._available(connection, arrived)
        claims = [
            claim
            for obs_id, names in arrived.items()
            for claim in claims_for(self._graph, obs_id, sorted(names), there[obs_id])
        ]
        if claims:
            patient = [claim for claim in claims if claim.product.o_wait_s > 0]
            self._refresh_waiting(connection, patient)
            self._insert(connection, claims, there, now)
            self._shorten_waits(connection, patient, there, now)
            self.hold_back(connection)

    def claim_by_hand(
        self, connection: sa.Connection, product: Product, obs_id: str, now: float
    ) -> sa.Row[Any]:
        """Record a processing that a person asked for, whatever was made before."""
        there = self._available(connection, [obs_id])[obs_id]
        inputs = {name: there[name] for name in product.sources if name in there}
        processing_id = str(uuid.uuid4())
        row = _new_row(Claim(product, obs_id, inputs), now, now)
        row |= {"id": processing_id, "claim": f"{BY_HAND} {processing_id}"}
        connection.execute(sa.insert(table).values(row))
        self.hold_back(connection)
        return connection.execute(sa.select(table).where(table.c.id == processing_id)).one()

    def release_waiting(
        self, connection: sa.Connection, ended: Iterable[sa.Row[Any]], now: float
    ) -> None:
        """Let go what waited for optional inputs that now will not come."""
        hopeless = [row for row in ended if row.state in (State.FAILED, State.CANCELLED)]
        claims = [
            Claim(product, row.obs_id, {})
            for row in hopeless
            for product in self._graph.products.values()
            if product.o_wait_s > 0
        ]
        if claims:
            there = self._available(connection, {claim.obs_id for claim in claims})
            self._shorten_waits(connection, claims, there, now)

    def hold_back(self, connection: sa.Connection) -> None:
        """Mark as held what is not requested yet and whose provider is held."""
        held = set(connection.scalars(sa.select(holds.c.provider)))
        if held:
            which = sa.true() if EVERY_PROVIDER in held else table.c.provider.in_(held)
            connection.execute(
                sa.update(table).where(sa.text(PENDING), which).values(state=State.HELD)
            )

    def _available(
        self, connection: sa.Connection, observations: Iterable[str]
    ) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {obs_id: {} for obs_id in observations}
        names = list(found)
        for start in range(0, len(names), MAX_AT_ONCE):
            query = sa.select(available.c.obs_id, available.c.product, available.c.version).where(
                available.c.obs_id.in_(names[start : start + MAX_AT_ONCE])
            )
            for obs_id, product, version in connection.execute(query):
                found[obs_id][product] = version
        return found

    def _insert(
        self,
        connection: sa.Connection,
        claims: Sequence[Claim],
        there: Mapping[str, Mapping[str, int]],
        now: float,
    ) -> None:
        rows = [
            _new_row(claim, now, now + self._patience_s(connection, claim, there[claim.obs_id]))
            for claim in claims
        ]
        connection.execute(insert(connection, table).on_conflict_do_nothing(), rows)

    def _refresh_waiting(self, connection: sa.Connection, claims: Iterable[Claim]) -> None:
        """Let a claim that has not been sent yet take the inputs that have come since."""
        for claim in claims:
            same = (table.c.obs_id == claim.obs_id, table.c.product == claim.product.name)
            unsent = connection.execute(
                sa.select(table.c.id, table.c.claim)
                .where(*same, table.c.claim.not_like(f"{BY_HAND}%"))
                .where(sa.or_(_UNSENT, table.c.claim == claim.key))
                .order_by(table.c.created.desc())
            ).all()
            # Where the claim is made already, or was, there is nothing to refresh.
            if unsent and all(row.claim != claim.key for row in unsent):
                connection.execute(
                    sa.update(table)
                    .where(table.c.id == unsent[0].id)
                    .values(claim=claim.key, inputs=dict(claim.inputs))
                )

    def _shorten_waits(
        self,
        connection: sa.Connection,
        claims: Iterable[Claim],
        there: Mapping[str, Mapping[str, int]],
        now: float,
    ) -> None:
        """Let go at once the claims whose optional inputs are all there, or will not come."""
        for claim in claims:
            if self._patience_s(connection, claim, there[claim.obs_id]) > 0:
                continue
            connection.execute(
                sa.update(table)
                .where(
                    table.c.obs_id == claim.obs_id,
                    table.c.product == claim.product.name,
                    _UNSENT,
                    table.c.not_before > now,
                )
                .values(not_before=now)
            )

    def _patience_s(
        self, connection: sa.Connection, claim: Claim, there: Mapping[str, int]
    ) -> float:
        """How long to wait for the claim's optional inputs that are on their way."""
        if claim.product.o_wait_s <= 0:
            return 0.0
        states = connection.execute(
            sa.select(table.c.product, table.c.state).where(table.c.obs_id == claim.obs_id)
        ).all()
        open_ = {row.product for row in states if not State(row.state).ended}
        hopeless = frozenset(row.product for row in states if row.state in _LOST) - open_
        waited = on_their_way(self._graph, claim.product, there, hopeless)
        return claim.product.o_wait_s if waited else 0.0


_UNSENT: Final = sa.and_(table.c.state.in_([State.WAITING, State.HELD]), table.c.attempt == 0)
_LOST: Final = frozenset({State.FAILED, State.CANCELLED})


def product_columns(product: Product) -> dict[str, Any]:
    """What a processing takes from the graph."""
    return {
        "provider": product.provider,
        "priority": product.priority,
        "max_attempts": product.max_attempts,
        "timeout_s": product.timeout_s,
    }


def _new_row(claim: Claim, now: float, not_before: float) -> dict[str, Any]:
    product = claim.product
    return {
        "id": claim.processing_id,
        "product": product.name,
        "obs_id": claim.obs_id,
        "claim": claim.key,
        "inputs": dict(claim.inputs),
        **product_columns(product),
        "state": State.WAITING,
        "attempt": 0,
        "pipeline_attempt": 0,
        "not_before": not_before,
        "ask_at": now,
        "done": 0,
        "total": 0,
        "created": now,
    }
