"""What an operator may do: make, retry, cancel, and correct what was believed."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import sqlalchemy as sa

from batuta.conductor.database.approvals import ApprovalStore
from batuta.conductor.database.claims import BY_HAND, UNSENT, ClaimStore
from batuta.conductor.database.current_graph import CurrentGraph, ReadsGraph
from batuta.conductor.database.dropped import DroppedStore
from batuta.conductor.database.held_work import hold_again
from batuta.conductor.database.history import record_order
from batuta.conductor.database.orders import record_command
from batuta.conductor.database.records import MAX_IN, Row, locked_rows, record_of, write_changes
from batuta.conductor.database.schema import approvals, available
from batuta.conductor.database.schema import processings as table
from batuta.conductor.decisions.commands import cancel, remake, retry, withdraw
from batuta.conductor.decisions.differences import Difference, DifferenceKind
from batuta.conductor.decisions.processing_record import AT_PROVIDER, ProcessingRecord
from batuta.service.operators import UNNAMED, Operator
from batuta.stages import rank_of
from batuta.work_classes import WorkClass


class Operations(ReadsGraph):
    """The operator's commands; each is one transaction.

    Made by the `Ledger`, whose arguments it shares.
    """

    def __init__(
        self,
        engine: sa.Engine,
        graph: CurrentGraph,
        claims: ClaimStore,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(graph)
        self._engine = engine
        self._claims = claims
        self._dropped = DroppedStore(graph)
        self._approvals = ApprovalStore(graph)
        self._clock = clock

    def make(
        self,
        product: str,
        obs_id: str,
        work_class: WorkClass | None = None,
        by: Operator = UNNAMED,
    ) -> Row:
        """Claim a product for an observation, whatever was made before.

        One that waits to be retried, of the same inputs, is tried at once instead: both would make
        the same product. `work_class` is its class, and that of what follows from it; None for that
        of its inputs, or of the graph.

        Raises
        ------
        KeyError
            If the graph has no such product.
        """
        now = self._clock()
        with self._engine.begin() as connection:
            self._restore(connection, [obs_id])
            of_class = {} if work_class is None else {"class": work_class}
            about = {"product": product, "obs_id": obs_id, **of_class}
            record_command(connection, by, now, "make", about)
            waiting = self._claims.find_retrying(connection, self._graph.products[product], obs_id)
            reason = "made by hand, while it waited to be retried"
            row = None
            if waiting is not None:
                row = self._retry(connection, waiting, reason, by, work_class)
            if row is not None:
                return row
            made = self._claims.claim_manually(
                connection, self._graph.products[product], obs_id, now, work_class
            )
            record_order(connection, [record_of(made)], now, BY_HAND, None, by)
            return made

    def retry(
        self, processing_id: str, reason: str | None = None, by: Operator = UNNAMED
    ) -> Row | None:
        """Renew the attempts of what failed, was cancelled or is retried; None for any other."""
        with self._engine.begin() as connection:
            row = self._retry(connection, processing_id, reason, by)
            if row is not None:
                record_command(connection, by, self._clock(), "retry", _about(row), reason)
            return row

    def _retry(
        self,
        connection: sa.Connection,
        processing_id: str,
        reason: str | None,
        by: Operator,
        work_class: WorkClass | None = None,
    ) -> Row | None:
        row = locked_rows(connection, [processing_id]).get(processing_id)
        if row is None:
            return None
        before = record_of(row)
        now = self._clock()
        after = retry(before, self._graph.products.get(before.product), now)
        if after is None:
            return None
        if work_class is not None:
            after = replace(after, work_class=work_class, told_class=work_class)
        after = self._current.decided(after)
        write_changes(connection, [(before, after)])
        record_order(connection, [before], now, "retried, with all attempts again", reason, by)
        hold_again(connection, [processing_id], now)
        return locked_rows(connection, [processing_id])[processing_id]

    def cancel(
        self, processing_id: str, reason: str | None, by: Operator = UNNAMED
    ) -> ProcessingRecord | None:
        """Cancel a processing that has not ended; None where it has.

        Returns
        -------
        ProcessingRecord or None
            As it was before: where it was at its provider, that is to be told next.
        """
        now = self._clock()
        with self._engine.begin() as connection:
            row = locked_rows(connection, [processing_id]).get(processing_id)
            if row is None:
                return None
            before = record_of(row)
            after = cancel(before, reason or f"cancelled by {by.label}", now)
            if after is None:
                return None
            write_changes(connection, [(before, after)])
            record_order(connection, [before], now, "cancelled", reason, by)
            record_command(connection, by, now, "cancel", _about(row), reason)
            rows = locked_rows(connection, [processing_id]).values()
            self._claims.end_futile_waits(connection, rows, now)
            return before

    def correct(self, differences: Sequence[Difference]) -> None:
        """Stop believing what the sdb does not hold, and make again what was made and lost.

        What was claimed from a version that is lost is forgotten with it, so that it is claimed
        again once its inputs have arrived again. What has changed since the differences were
        found is left as it is.
        """
        with self._engine.begin() as connection:
            self._restore(connection, {each.obs_id for each in differences})
            for each in differences:
                if each.kind is DifferenceKind.NOT_ARCHIVED:
                    self._forget_version(connection, each)
                elif each.kind is DifferenceKind.NOT_MADE and each.processing_id is not None:
                    self._remake(connection, each.processing_id)
                elif each.kind is DifferenceKind.WITHDRAWN:
                    self._withdraw(connection, each)
            remade = [each.processing_id for each in differences if each.processing_id is not None]
            hold_again(connection, remade, self._clock())

    def _restore(self, connection: sa.Connection, observations: Collection[str]) -> None:
        """Put back what was dropped of observations: it is about to change."""
        self._claims.lock_observations(connection, observations)
        self._dropped.restore(connection, observations)

    def _forget_version(self, connection: sa.Connection, lost: Difference) -> None:
        if self._make_unavailable(connection, lost):
            self._delete_claims_from(connection, lost, table.c.state.not_in(AT_PROVIDER))

    def _withdraw(self, connection: sa.Connection, withdrawn: Difference) -> None:
        """Stop using a version; what was made from it, and the record of that, stays.

        Its own processing is made again if a newer version of its inputs arrives, or on request.
        """
        self._approvals.close_withdrawn(
            connection, withdrawn.product, withdrawn.obs_id, withdrawn.recorded
        )
        if self._make_unavailable(connection, withdrawn):
            self._delete_claims_from(connection, withdrawn, UNSENT)
        if withdrawn.processing_id is None or withdrawn.recorded is None:
            return
        rows = locked_rows(connection, [withdrawn.processing_id])
        for row in rows.values():
            now = self._clock()
            before = record_of(row)
            after = withdraw(before, withdrawn.recorded, withdrawn.reason, now)
            if after is not None and before.product == withdrawn.product:
                write_changes(connection, [(before, after)])
                ended = locked_rows(connection, [row.id]).values()
                self._claims.end_futile_waits(connection, ended, now)

    def _make_unavailable(self, connection: sa.Connection, lost: Difference) -> bool:
        """Record the newest version that is left; return whether the lost one was recorded."""
        row = sa.and_(
            available.c.obs_id == lost.obs_id,
            available.c.product == lost.product,
            available.c.version == lost.recorded,
        )
        usable = self._approvals.usable(connection, lost.product, lost.obs_id, lost.archived)
        if usable is None:
            changed = connection.execute(sa.delete(available).where(row))
        else:
            values = {
                "version": usable,
                "archived": True,
                "stage": _stage(connection, lost, usable),
            }
            changed = connection.execute(sa.update(available).where(row).values(values))
        return bool(changed.rowcount)

    def _delete_claims_from(
        self, connection: sa.Connection, lost: Difference, which: sa.ColumnElement[bool]
    ) -> None:
        last_held = -1 if lost.archived is None else lost.archived
        claimed = connection.execute(
            sa.select(table.c.id, table.c.inputs).where(table.c.obs_id == lost.obs_id, which)
        )
        versions = [(row.id, row.inputs.get(lost.product, -1)) for row in claimed]
        # Of a lower stage, what is left may have a higher number than what is lost.
        stale = [id_ for id_, used in versions if used > last_held or used == lost.recorded]
        for start in range(0, len(stale), MAX_IN):
            ids = stale[start : start + MAX_IN]
            connection.execute(sa.delete(table).where(table.c.id.in_(ids)))

    def _remake(self, connection: sa.Connection, processing_id: str) -> None:
        row = locked_rows(connection, [processing_id]).get(processing_id)
        if row is None:
            return
        before = record_of(row)
        after = remake(before, self._graph.products.get(before.product), self._clock())
        if after is None:
            return
        if self._claims.inputs_are_available(connection, row):
            write_changes(connection, [(before, self._current.decided(after))])
        else:
            connection.execute(sa.delete(table).where(table.c.id == processing_id))


def _about(row: Row) -> dict[str, str]:
    return {"product": row.product, "obs_id": row.obs_id, "processing": row.id}


def _stage(connection: sa.Connection, lost: Difference, usable: int) -> int | None:
    """Return the rank of the stage of the version that is left; None if it tells none."""
    if usable == lost.archived:
        return None if lost.stage is None else rank_of(lost.stage)
    # The sdb holds a newer one, of which a person has not approved.
    query = sa.select(approvals.c.stage).where(
        approvals.c.obs_id == lost.obs_id,
        approvals.c.product == lost.product,
        approvals.c.version == usable,
    )
    rank: int | None = connection.scalar(query)
    return rank
