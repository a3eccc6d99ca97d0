"""What an order changes of processings, one or a batch of a set, inside a transaction."""

from collections.abc import Collection

import sqlalchemy as sa

from batuta.conductor.database.claiming.claims import ClaimStore
from batuta.conductor.database.current_graph import CurrentGraph, ReadsGraph
from batuta.conductor.database.history import record_order
from batuta.conductor.database.holds.held_work import read_holds
from batuta.conductor.database.records import locked_records, locked_rows, write_changes
from batuta.conductor.database.stops import record_stops
from batuta.conductor.decisions.holds import keep_back
from batuta.conductor.decisions.order_sets import Ordered, SetCommand, carry_out
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.conductor.decisions.stops import being_told, stop_of
from batuta.service.operators import Operator


class OrderExecution(ReadsGraph):
    """Carries orders out for processings; every method works in the transaction of its caller.

    Parameters
    ----------
    graph : CurrentGraph
        What holds the graph in force.
    claims : ClaimStore
        Ends what waits for what was cancelled.
    """

    def __init__(self, graph: CurrentGraph, claims: ClaimStore) -> None:
        super().__init__(graph)
        self._claims = claims

    def carry_out(
        self,
        connection: sa.Connection,
        ordered: Ordered,
        by: Operator,
        ids: Collection[str],
        now: float,
    ) -> list[ProcessingRecord]:
        """Change the processings that an order is for; return those, as they were before."""
        found = locked_records(connection, ids)
        holds = [] if ordered.command is SetCommand.CANCEL or not found else read_holds(connection)
        # With their inputs, whose JSON takes longer to decode than all others to read.
        rows = locked_rows(connection, ids if ordered.command is SetCommand.RETRY else ())
        changes: list[tuple[ProcessingRecord, ProcessingRecord]] = []
        for before in found.values():
            after = carry_out(ordered, before, self._graph.products.get(before.product), now)
            if after is None:
                continue
            if ordered.command is not SetCommand.REPRIORITIZE:
                after = self._current.decided(after)
            if ordered.command is SetCommand.RETRY:
                self._claims.take_current_inputs(connection, rows[before.id])
            changes.append((before, keep_back(after, holds, now)))
        write_changes(connection, changes)
        befores = [before for before, _ in changes]
        record_order(connection, befores, now, ordered.told(), ordered.reason, by)
        if ordered.command is SetCommand.CANCEL and befores:
            # Whoever gave the order has providers told at once; if killed before they have all
            # answered, they are told again.
            stops = (stop_of(before, now) for before in befores)
            record_stops(connection, [being_told(stop, now) for stop in stops if stop is not None])
            self._claims.end_futile_waits(connection, [after for _, after in changes], now)
        return befores
