"""What an operator may do: make, retry, cancel, reprioritize, correct what was believed."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from batuta.conductor.database.approvals.awaiting_versions import ApprovalStore
from batuta.conductor.database.claiming.claims import BY_HAND, ClaimStore
from batuta.conductor.database.claiming.withdrawals import (
    Stopped,
    delete_claims_from,
    make_unavailable,
    withdraw_version,
)
from batuta.conductor.database.current_graph import CurrentGraph, ReadsGraph
from batuta.conductor.database.graphs.dropped_products import last_with, why_not_made
from batuta.conductor.database.history import record_order
from batuta.conductor.database.holds.held_work import hold_again
from batuta.conductor.database.operations.orders_executed import OrderExecution
from batuta.conductor.database.orders import record_command
from batuta.conductor.database.records import Row, locked_rows, record_of, write_changes
from batuta.conductor.database.retention.dropped import DroppedStore
from batuta.conductor.database.schema import approvals
from batuta.conductor.database.schema import processings as table
from batuta.conductor.decisions.commands import NO_OTHER_URGENCY, Urgency, remake
from batuta.conductor.decisions.differences import Difference, DifferenceKind
from batuta.conductor.decisions.order_sets import Ordered, SetCommand
from batuta.conductor.decisions.processing_record import AT_PROVIDER, ProcessingRecord
from batuta.errors import BatutaError
from batuta.graph import Graph, Product
from batuta.service.operators import UNNAMED, Operator
from batuta.stages import Stage, stage_of
from batuta.work_classes import WorkClass


class NotInGraphError(BatutaError):
    """A product that the graph in force does not make.

    Attributes
    ----------
    product : str
        Its name.
    graph : Graph
        The graph by which it was refused.
    why : str or None
        Which version has dropped it, in one line; None if none ever made it.
    """

    def __init__(self, product: str, graph: Graph, why: str | None) -> None:
        super().__init__(why or f"product {product!r}: not in the graph")
        self.product = product
        self.graph = graph
        self.why = why


class LacksInputsError(BatutaError):
    """A product that cannot be made, since inputs that it needs are not available.

    Attributes
    ----------
    absent : list of str
        These inputs.
    """

    def __init__(self, product: str, obs_id: str, absent: Sequence[str]) -> None:
        super().__init__(
            f"{product} of {obs_id}: inputs that it needs are not available: {', '.join(absent)}"
        )
        self.absent = list(absent)


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of an order for one processing, in the transaction that carried it out, or not.

    Attributes
    ----------
    row : Row or None
        The processing as it is then; None if none of that id is recorded.
    changed : bool
        Whether the order has changed it.
    problem : str or None
        Why the graph in force forbids it, in one line, where it does.
    """

    row: Row | None
    changed: bool
    problem: str | None = None


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
        self._execution = OrderExecution(graph, claims)
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
        NotInGraphError
            If the graph has no such product.
        LacksInputsError
            If it cannot be made from what is available; nothing is recorded.
        """
        now = self._clock()
        with self._engine.begin() as connection:
            # Locked: an input that is withdrawn from now on finds what is claimed here.
            self._restore(connection, [obs_id])
            definition = self._definition(connection, product)
            if absent := self._claims.lacking(connection, definition, obs_id):
                raise LacksInputsError(product, obs_id, absent)
            of_class = {} if work_class is None else {"class": work_class}
            about = {"product": product, "obs_id": obs_id, **of_class}
            record_command(connection, by, now, "make", about)
            waiting = self._claims.find_retrying(connection, definition, obs_id)
            reason = "made by hand, while it waited to be retried"
            row = None
            if waiting is not None:
                urgency = Urgency(work_class=work_class)
                ordered = self._ordered(SetCommand.RETRY, by, reason, urgency)
                row = self._carry_out(connection, ordered, by, waiting)
            if row is not None:
                return row
            made = self._claims.claim_manually(connection, definition, obs_id, now, work_class)
            record_order(connection, [record_of(made)], now, BY_HAND, None, by)
            return made

    def retry(
        self, processing_id: str, reason: str | None = None, by: Operator = UNNAMED
    ) -> Answered:
        """Renew the attempts of what failed, was cancelled or is retried; not those of any other.

        Where the graph in force does not make it, that is the problem which is told.
        """
        ordered = self._ordered(SetCommand.RETRY, by, reason)
        with self._engine.begin() as connection:
            row = self._carry_out(connection, ordered, by, processing_id)
            if row is not None:
                record_command(connection, by, ordered.at, "retry", _about(row), reason)
                return Answered(row, changed=True)
            row = _row(connection, processing_id)
            why = None if row is None else why_not_made(connection, self._current, row.product)
        return Answered(row, changed=False, problem=why)

    def reprioritize(
        self,
        processing_id: str,
        urgency: Urgency,
        reason: str | None = None,
        by: Operator = UNNAMED,
    ) -> Answered:
        """Change the class or the priority of a processing that is to be made."""
        ordered = self._ordered(SetCommand.REPRIORITIZE, by, reason, urgency)
        with self._engine.begin() as connection:
            row = self._carry_out(connection, ordered, by, processing_id)
            if row is not None:
                about = {**_about(row), "to": urgency.given}
                record_command(connection, by, ordered.at, "reprioritize", about, reason)
                return Answered(row, changed=True)
            return Answered(_row(connection, processing_id), changed=False)

    def cancel(
        self, processing_id: str, reason: str | None, by: Operator = UNNAMED
    ) -> ProcessingRecord | None:
        """Cancel a processing that has not ended; None where it has.

        Returns
        -------
        ProcessingRecord or None
            As it was before: where it was at its provider, that is to be told next.
        """
        ordered = self._ordered(SetCommand.CANCEL, by, reason)
        with self._engine.begin() as connection:
            changed = self._execution.carry_out(
                connection, ordered, by, [processing_id], ordered.at
            )
            for before in changed:
                record_command(connection, by, ordered.at, "cancel", _about(before), reason)
        return changed[0] if changed else None

    def _definition(self, connection: sa.Connection, product: str) -> Product:
        definition = self._graph.products.get(product)
        if definition is not None:
            return definition
        dropped = last_with(connection, self._current, product) is not None
        why = why_not_made(connection, self._current, product) if dropped else None
        raise NotInGraphError(product, self._graph, why)

    def _ordered(
        self,
        command: SetCommand,
        by: Operator,
        reason: str | None,
        urgency: Urgency = NO_OTHER_URGENCY,
    ) -> Ordered:
        return Ordered(
            command=command, at=self._clock(), by=by.label, reason=reason, urgency=urgency
        )

    def _carry_out(
        self, connection: sa.Connection, ordered: Ordered, by: Operator, processing_id: str
    ) -> Row | None:
        """Carry an order out for one; return it as it is then, None if it was not changed."""
        ids = [processing_id]
        if not self._execution.carry_out(connection, ordered, by, ids, ordered.at):
            return None
        return locked_rows(connection, ids)[processing_id]

    def correct(self, differences: Sequence[Difference]) -> list[Stopped]:
        """Stop believing what the sdb does not hold, and make again what was made and lost.

        What was claimed from a version that is lost is forgotten with it, so that it is claimed
        again once its inputs have arrived again. What has changed since the differences were
        found is left as it is.

        Returns
        -------
        list of Stopped
            What was being made from a withdrawn version: its providers are to be told next.
        """
        stopped: list[Stopped] = []
        with self._engine.begin() as connection:
            self._restore(connection, {each.obs_id for each in differences})
            for each in differences:
                if each.kind is DifferenceKind.NOT_ARCHIVED:
                    self._forget_version(connection, each)
                elif each.kind is DifferenceKind.NOT_MADE and each.processing_id is not None:
                    self._remake(connection, each.processing_id)
                elif each.kind is DifferenceKind.WITHDRAWN:
                    stopped += self._withdraw(connection, each)
            remade = [each.processing_id for each in differences if each.processing_id is not None]
            hold_again(connection, remade, self._clock())
        return stopped

    def _restore(self, connection: sa.Connection, observations: Collection[str]) -> None:
        """Put back what was dropped of observations: it is about to change."""
        self._claims.lock_observations(connection, observations)
        self._dropped.restore(connection, observations)

    def _forget_version(self, connection: sa.Connection, lost: Difference) -> None:
        lost = self._with_usable(connection, lost)
        if make_unavailable(connection, lost):
            delete_claims_from(connection, lost, table.c.state.not_in(AT_PROVIDER))

    def _withdraw(self, connection: sa.Connection, withdrawn: Difference) -> list[Stopped]:
        self._approvals.close_withdrawn(
            connection, withdrawn.product, withdrawn.obs_id, withdrawn.recorded
        )
        left = self._with_usable(connection, withdrawn)
        return withdraw_version(connection, self._claims, left, self._clock())

    def _with_usable(self, connection: sa.Connection, lost: Difference) -> Difference:
        """Return what is lost, with the newest version left that may be used."""
        usable = self._approvals.usable(connection, lost.product, lost.obs_id, lost.archived)
        if usable == lost.archived:
            return lost
        stage = None if usable is None else _stage(connection, lost, usable)
        change = {"archived": usable, "archived_by": None, "stage": stage}
        return lost.model_copy(update=change)

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


def _row(connection: sa.Connection, processing_id: str) -> Row | None:
    query = sa.select(table).where(table.c.id == processing_id)
    return connection.execute(query).one_or_none()


def _about(row: Row | ProcessingRecord) -> dict[str, str]:
    return {"product": row.product, "obs_id": row.obs_id, "processing": row.id}


def _stage(connection: sa.Connection, lost: Difference, usable: int) -> Stage | None:
    """Return the stage of a version that was approved, while the sdb holds a newer one."""
    query = sa.select(approvals.c.stage).where(
        approvals.c.obs_id == lost.obs_id,
        approvals.c.product == lost.product,
        approvals.c.version == usable,
    )
    rank: int | None = connection.scalar(query)
    return None if rank is None else stage_of(rank)
