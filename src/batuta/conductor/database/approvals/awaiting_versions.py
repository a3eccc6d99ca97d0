"""Versions that wait for a person before they are available, inside a transaction.

A graph in which nothing asks costs no statement.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from batuta.approval_gates import Gate
from batuta.conductor.database.current_graph import ReadsGraph
from batuta.conductor.database.history import read_history
from batuta.conductor.database.records import MAX_IN, Row
from batuta.conductor.database.schema import approvals as table
from batuta.conductor.database.schema import available, processings
from batuta.conductor.decisions.approvals import (
    Maker,
    Question,
    Verdict,
    question_of,
    versions_text,
)
from batuta.conductor.decisions.events import Archived
from batuta.conductor.decisions.processing_record import GIVEN_UP
from batuta.conductor.decisions.rules import Arrival
from batuta.graph import Graph
from batuta.messaging import ProcessingState as State
from batuta.service.database import insert

ANSWERS: Final[Mapping[str, Verdict]] = {each.value: each for each in Verdict}
"""How the history of a processing tells what a person has decided about it."""


class ApprovalStore(ReadsGraph):
    """Keeps back what waits for approval; every method works in the transaction of its caller."""

    def admit(
        self,
        connection: sa.Connection,
        arrivals: Sequence[Arrival],
        made: Iterable[Archived],
        now: float,
    ) -> tuple[Sequence[Arrival], list[Question], list[Question]]:
        """Return what is available now, what is kept back, and what of that is asked for now.

        A version is asked about once: one that was announced again is as it was decided. What was
        available before the graph asked stays so.

        Parameters
        ----------
        arrivals : sequence of Arrival
            Of observations that the caller has locked.
        made : iterable of Archived
            The processings that made some of them; what they change has been recorded.
        """
        asking = [each for each in arrivals if each.product in self._graph.asking]
        if not asking:
            return arrivals, [], []
        observations = {each.obs_id for each in asking}
        before, known = _questions(connection, observations), _available(connection, observations)
        makers = _Makers(connection, observations, made)
        kept: dict[Arrival, Question] = {}
        asked: list[Question] = []
        for arrival in asking:
            instance = (arrival.obs_id, arrival.product)
            question = before.get((*instance, arrival.version))
            approved = question is not None and question.state is Verdict.APPROVED
            if approved or arrival.version <= known.get(instance, -1):
                continue
            if question is None:
                maker = makers.of(arrival)
                found = question_of(self._graph.products[arrival.product], maker)
                if found is None:
                    continue
                question = _ask(connection, arrival, maker, found, now)
                before[*instance, arrival.version] = question
                asked.append(question)
            kept[arrival] = question
        return [each for each in arrivals if each not in kept], [*kept.values()], asked

    def unapproved(
        self, connection: sa.Connection, instances: Collection[tuple[str, str]]
    ) -> dict[str, Question]:
        """Return those of the products, (obs_id, product), that wait to be made, by processing."""
        rows = _rows_of(connection, processings, {obs_id for obs_id, _ in instances})
        return {
            row.id: of_processing(row)
            for row in rows
            if row.state == State.UNAPPROVED and (row.obs_id, row.product) in instances
        }

    def close_withdrawn(
        self, connection: sa.Connection, product: str, obs_id: str, version: int | None
    ) -> None:
        """Ask no more about a version that was withdrawn."""
        if product in self._graph.asking:
            this = (table.c.obs_id == obs_id, table.c.product == product)
            connection.execute(
                sa.update(table)
                .where(*this, table.c.version == version)
                .where(table.c.state != Verdict.APPROVED)
                .values(state=Verdict.WITHDRAWN)
            )

    def usable(
        self, connection: sa.Connection, product: str, obs_id: str, version: int | None
    ) -> int | None:
        """Return the newest version that may be used, where the sdb holds none after `version`."""
        if product not in self._graph.asking or version is None:
            return version
        rows = connection.execute(
            sa.select(table.c.version, table.c.state).where(
                table.c.obs_id == obs_id, table.c.product == product, table.c.version <= version
            )
        ).all()
        states = {row.version: row.state for row in rows}
        if version not in states:
            return version
        usable = [each for each, state in states.items() if state == Verdict.APPROVED]
        return max(usable, default=None)


def _questions(
    connection: sa.Connection, observations: Collection[str]
) -> dict[tuple[str, str, int], Question]:
    return {
        (row.obs_id, row.product, row.version): of_version(dict(row._mapping))
        for row in _rows_of(connection, table, observations)
    }


def _available(
    connection: sa.Connection, observations: Collection[str]
) -> dict[tuple[str, str], int]:
    rows = _rows_of(connection, available, observations)
    return {(row.obs_id, row.product): row.version for row in rows if row.archived}


def _rows_of(
    connection: sa.Connection, of: sa.Table, observations: Collection[str]
) -> Iterable[Row]:
    names = sorted(observations)
    for start in range(0, len(names), MAX_IN):
        some = names[start : start + MAX_IN]
        yield from connection.execute(sa.select(of).where(of.c.obs_id.in_(some)))


class _Makers:
    """Which processings versions come of, as they are now."""

    def __init__(
        self, connection: sa.Connection, observations: Collection[str], made: Iterable[Archived]
    ) -> None:
        rows = sorted(
            _rows_of(connection, processings, observations), key=lambda row: float(row.created)
        )
        self._by_id = {row.id: row for row in rows}
        self._newest = {(row.product, row.obs_id): row for row in rows if row.attempt}
        self._made = {(each.product, each.obs_id, each.version): each for each in made}

    def of(self, arrival: Arrival) -> Maker | None:
        """Return the processing that made a version; None if it was imported by hand.

        An import that names no processing of ours, by the provider of the newest one, is of that:
        a pipeline that others wrote has ids of its own.
        """
        made = self._made.get((arrival.product, arrival.obs_id, arrival.version))
        if made is None:
            return None
        row = self._by_id.get(made.processing_id)
        if row is None:
            newest = self._newest.get((arrival.product, arrival.obs_id))
            if newest is None or newest.state not in GIVEN_UP or newest.provider != made.provider:
                return None
            row = newest
        return Maker(id=row.id, state=State(row.state), error=row.error)


def _ask(
    connection: sa.Connection,
    arrival: Arrival,
    maker: Maker | None,
    found: tuple[Gate, Verdict, str | None],
    now: float,
) -> Question:
    gate, verdict, detail = found
    by_rule = verdict is not Verdict.PENDING
    values = {
        "obs_id": arrival.obs_id,
        "product": arrival.product,
        "version": arrival.version,
        "gate": gate,
        "processing_id": None if maker is None else maker.id,
        "detail": detail,
        "archived": arrival.archived,
        "told_class": arrival.told_class,
        "stage": arrival.stage,
        "asked": now,
        "state": verdict,
        "by": "conductor" if by_rule else None,
        "decided": now if by_rule else None,
        "reason": "late_result: refuse" if by_rule else None,
    }
    connection.execute(insert(connection, table).values(values).on_conflict_do_nothing())
    return of_version(values)


def of_version(values: Mapping[str, Any]) -> Question:
    """Return a row of the table of approvals, as decisions see it."""
    return Question(
        gate=Gate(values["gate"]),
        product=values["product"],
        obs_id=values["obs_id"],
        version=str(values["version"]),
        since=values["asked"],
        processing_id=values["processing_id"],
        detail=values["detail"],
        state=Verdict(values["state"]),
        by=values["by"],
        decided=values["decided"],
        reason=values["reason"],
    )


def of_processing(row: Row, answer: Row | None = None) -> Question:
    """Return a processing that waits for approval, or of which `answer` is what was decided."""
    asks = row.state == State.UNAPPROVED or answer is None
    return Question(
        gate=Gate.BEFORE,
        product=row.product,
        obs_id=row.obs_id,
        version=versions_text(row.inputs),
        since=row.created,
        processing_id=row.id,
        state=Verdict.PENDING if asks or answer is None else ANSWERS[answer.what],
        by=None if asks or answer is None else answer.by,
        decided=None if asks or answer is None else answer.at,
        reason=None if asks or answer is None else answer.reason,
    )


def questions_of(connection: sa.Connection, product: str, obs_id: str) -> list[Question]:
    """Return all that is, or was, asked about a product of an observation, the oldest first."""
    rows = connection.execute(
        sa.select(processings)
        .where(processings.c.obs_id == obs_id, processings.c.product == product)
        .order_by(processings.c.created)
    ).all()
    answers = {
        each.processing_id: each
        for each in read_history(connection, obs_id)
        if each.what in ANSWERS
    }
    asked = [
        of_processing(row, answers.get(row.id))
        for row in rows
        if row.state == State.UNAPPROVED or row.id in answers
    ]
    return [*asked, *versions_asked(connection, obs_id, product)]


def kept_back(
    connection: sa.Connection, graph: Graph, obs_id: str, versions: Mapping[str, int]
) -> dict[str, Question]:
    """Return what keeps back the newest version of each product, where it is not available.

    Parameters
    ----------
    versions : mapping
        What is available of the observation.
    """
    if not graph.asking:
        return {}
    return {
        each.product: each
        for each in versions_asked(connection, obs_id)
        if each.state in {Verdict.PENDING, Verdict.REFUSED}
        and int(each.version) > versions.get(each.product, 0)
    }


def versions_asked(
    connection: sa.Connection, obs_id: str, product: str | None = None
) -> list[Question]:
    """Return what is, or was, asked about versions of an observation's products, oldest first."""
    query = sa.select(table).where(table.c.obs_id == obs_id)
    if product is not None:
        query = query.where(table.c.product == product)
    # An observation has few: sorted here, so that its index is used, and nothing else is.
    rows = sorted(connection.execute(query), key=lambda row: int(row.number))
    return [of_version(dict(row._mapping)) for row in rows]
