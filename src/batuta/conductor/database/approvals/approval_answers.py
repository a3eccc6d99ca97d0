"""What a person answers: approve or refuse, each one transaction."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import sqlalchemy as sa

from batuta.approval_gates import Gate
from batuta.conductor.database.approvals.awaiting_versions import questions_of
from batuta.conductor.database.claiming.claims import ClaimStore
from batuta.conductor.database.current_graph import CurrentGraph
from batuta.conductor.database.graphs.dropped_products import why_not_made
from batuta.conductor.database.history import record_order
from batuta.conductor.database.holds.held_work import hold_again
from batuta.conductor.database.orders import record_command
from batuta.conductor.database.records import locked_records, locked_rows, write_changes
from batuta.conductor.database.retention.dropped import DroppedStore
from batuta.conductor.database.schema import approvals as table
from batuta.conductor.decisions.approvals import (
    Question,
    Verdict,
    approve,
    choose,
    problem_of,
    refuse,
)
from batuta.conductor.decisions.events import Archived
from batuta.conductor.decisions.processing_record import Conditions, WaitConfig
from batuta.conductor.decisions.rules import Arrival
from batuta.conductor.decisions.transitions import transition
from batuta.service.operators import Operator
from batuta.work_classes import WorkClass

COMMANDS: Final = {Verdict.APPROVED: "approve", Verdict.REFUSED: "refuse"}


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of an answer: the question as it is now, or why it cannot be answered so."""

    question: Question | None
    problem: str | None = None


class Approvals:
    """The answers of people; made by the `Ledger`, whose arguments it shares."""

    def __init__(
        self, engine: sa.Engine, graph: CurrentGraph, claims: ClaimStore, clock: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._current = graph
        self._claims = claims
        self._dropped = DroppedStore(graph)
        self._clock = clock

    def answer(
        self,
        product: str,
        obs_id: str,
        version: str | None,
        verdict: Verdict,
        reason: str | None,
        by: Operator,
    ) -> Answered:
        """Record an answer, and what follows from it.

        Parameters
        ----------
        version : str or None
            What the person has looked at; refused if it is not what is asked about now. None: the
            only one that waits.
        verdict : Verdict
            Approved or refused.
        """
        about = f"{product} of {obs_id}"
        now = self._clock()
        with self._engine.begin() as connection:
            self._claims.lock_observations(connection, [obs_id])
            question, problem = choose(questions_of(connection, product, obs_id), version, about)
            if question is None:
                return Answered(None, problem)
            refused = problem_of(question, verdict, about)
            if refused is None and verdict is Verdict.APPROVED:
                refused = self._not_made(connection, question)
            if refused is not None:
                return Answered(None, refused)
            answered = replace(question, state=verdict, by=by.label, decided=now, reason=reason)
            if question.gate is Gate.BEFORE:
                self._answer_processing(connection, answered, by)
            else:
                self._answer_version(connection, answered)
            command = {"product": product, "obs_id": obs_id, "version": question.version}
            record_command(connection, by, now, COMMANDS[verdict], command, reason)
            return Answered(answered)

    def _not_made(self, connection: sa.Connection, question: Question) -> str | None:
        """Say why nothing may be approved of a product that the graph in force does not have."""
        # As an input of it, a version is used; but it is not made.
        if question.gate is not Gate.BEFORE and question.product in self._current.graph.inputs:
            return None
        return why_not_made(connection, self._current, question.product)

    def _answer_processing(
        self, connection: sa.Connection, answered: Question, by: Operator
    ) -> None:
        processing_id, now = answered.processing_id or "", answered.decided or 0.0
        before = locked_records(connection, [processing_id])[processing_id]
        if answered.state is Verdict.APPROVED:
            after = approve(before)
        else:
            after = refuse(before, by.label, answered.reason or "", now)
        if after is None:
            raise RuntimeError(f"{processing_id} is {before.state}, and was chosen")
        write_changes(connection, [(before, self._current.decided(after))])
        record_order(connection, [before], now, answered.state.value, answered.reason, by)
        if answered.state is Verdict.APPROVED:
            hold_again(connection, [processing_id], now)
        else:
            ended = locked_rows(connection, [processing_id]).values()
            self._claims.end_futile_waits(connection, ended, now)

    def _answer_version(self, connection: sa.Connection, answered: Question) -> None:
        this = (
            table.c.obs_id == answered.obs_id,
            table.c.product == answered.product,
            table.c.version == int(answered.version),
        )
        row = connection.execute(sa.select(table).where(*this).with_for_update()).one()
        values = {
            "state": answered.state,
            "by": answered.by,
            "decided": answered.decided,
            "reason": answered.reason,
        }
        connection.execute(sa.update(table).where(*this).values(values))
        if answered.state is not Verdict.APPROVED:
            return
        now = answered.decided or 0.0
        self._dropped.restore(connection, [answered.obs_id])
        if answered.gate is Gate.LATE:
            self._adopt(connection, answered, now)
        arrival = Arrival(
            answered.product,
            answered.obs_id,
            int(answered.version),
            archived=row.archived,
            told_class=None if row.told_class is None else WorkClass(row.told_class),
            stage=row.stage,
            made_by=answered.processing_id,
        )
        # As if it had been announced now.
        self._claims.record_available(connection, [arrival], now)
        self._claims.claim(connection, [arrival], now)

    def _adopt(self, connection: sa.Connection, answered: Question, now: float) -> None:
        """Make the processing that was given up one that has succeeded."""
        for before in locked_records(connection, [answered.processing_id or ""]).values():
            made = Archived(
                processing_id=before.id,
                product=answered.product,
                obs_id=answered.obs_id,
                provider=None,
                version=int(answered.version),
            )
            after = transition(before, made, Conditions(now=now, waits=WaitConfig()))
            if after is not None:
                write_changes(connection, [(before, self._current.decided(after))])
