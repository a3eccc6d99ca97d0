"""What waits for approval, as REST shows it."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from pydantic import BaseModel

from batuta.approval_gates import Gate
from batuta.conductor.database.approvals.awaiting_versions import of_processing, of_version
from batuta.conductor.database.lists import decode_key, encode_key, matches
from batuta.conductor.database.schema import LISTED, TO_APPROVE
from batuta.conductor.database.schema import approvals as versions
from batuta.conductor.database.schema import processings as table
from batuta.conductor.database.summaries import read_counts
from batuta.conductor.decisions.approvals import Question, Verdict
from batuta.messaging import ProcessingState as State
from batuta.messaging.processings import instant_of
from batuta.service.database import reading
from batuta.service.listing import Listing
from batuta.service.pagination import Page

_PROCESSING: Final = "processing"
_VERSIONS: Final = "version"
"""How a cursor begins that is in the first, or in the second part of the list."""


class ApprovalView(BaseModel):
    """Something that a person approves or refuses.

    `gate` is ``before`` (whether the product is made), ``after`` (whether anything is made from
    this version of it) or ``late`` (whether a result of a processing that was given up is adopted:
    `detail` tells why it was). `version` is what is looked at: that of the product, or those of
    the inputs that it is to be made from.
    """

    product: str
    obs_id: str
    gate: Gate
    version: str
    since: datetime
    processing: str | None
    detail: str | None
    state: Verdict
    by: str | None
    decided: datetime | None
    reason: str | None


def approval_of(question: Question) -> ApprovalView:
    """Return a question as REST shows it."""
    return ApprovalView(
        product=question.product,
        obs_id=question.obs_id,
        gate=question.gate,
        version=question.version,
        since=instant_of(question.since),
        processing=question.processing_id,
        detail=question.detail,
        state=question.state,
        by=question.by,
        decided=None if question.decided is None else instant_of(question.decided),
        reason=question.reason,
    )


class ApprovalViews:
    """Reads what waits for approval; never writes."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def page(
        self,
        filters: Mapping[str, str | None],
        limit: int,
        cursor: str | None,
        gate: Gate | None = None,
    ) -> Page[ApprovalView]:
        """Return a page of what waits: what is to be made, then versions; each the oldest first.

        Parameters
        ----------
        filters : mapping
            Values, or patterns, of ``product`` and ``obs_id``.
        gate : Gate, optional
            Only what is asked there.

        Raises
        ------
        ValueError
            If `cursor` is none that a page had.
        """
        given = {name: value for name, value in filters.items() if value is not None}
        part, _, after = (cursor or "").partition(":")
        if part not in {"", _PROCESSING, _VERSIONS}:
            raise ValueError(cursor)
        found: list[Question] = []
        with reading(self._engine) as connection:
            if part != _VERSIONS and gate in {None, Gate.BEFORE}:
                rows, following = _unapproved(given).page(
                    connection, limit, decode_key(after or None)
                )
                found = [of_processing(row) for row in rows]
                if following is not None:
                    return _page(found, f"{_PROCESSING}:{encode_key(following)}")
                after = ""
            if gate is Gate.BEFORE:
                return _page(found, None)
            if len(found) == limit:
                return _page(found, f"{_VERSIONS}:0")
            key = (int(after),) if after else None
            rows, following = _pending(given, gate).page(connection, limit - len(found), key)
        found += [of_version(dict(row._mapping)) for row in rows]
        return _page(found, None if following is None else f"{_VERSIONS}:{following[0]}")

    def count(self) -> dict[str, int]:
        """Return how much waits for approval, by gate; every gate is there."""
        gates = (Gate.AFTER, Gate.LATE)
        numbers = [sa.func.count().filter(versions.c.gate == gate.value) for gate in gates]
        with reading(self._engine) as connection:
            unapproved = read_counts(connection).passing({"state": State.UNAPPROVED})
            found = connection.execute(sa.select(*numbers).where(sa.text(TO_APPROVE))).one()
        waiting = dict(zip((gate.value for gate in gates), map(int, found), strict=True))
        return {Gate.BEFORE.value: unapproved, **waiting}


def _unapproved(given: Mapping[str, str]) -> Listing:
    """Return what waits before it is made."""
    return Listing(
        query=sa.select(table),
        key=[table.c.created, table.c.id],
        selected=[sa.text(LISTED), table.c.state == State.UNAPPROVED],
        checked=[*_conditions(table, given)],
    )


def _pending(given: Mapping[str, str], gate: Gate | None) -> Listing:
    """Return the versions that wait, at one gate or at any."""
    return Listing(
        query=sa.select(versions),
        key=[versions.c.number],
        selected=[sa.text(TO_APPROVE), *([] if gate is None else [versions.c.gate == gate.value])],
        checked=[*_conditions(versions, given)],
    )


def _page(found: list[Question], cursor: str | None) -> Page[ApprovalView]:
    return Page(items=[approval_of(each) for each in found], next=cursor)


def _conditions(of: sa.Table, given: Mapping[str, str]) -> Iterator["sa.ColumnElement[bool]"]:
    return (matches(of.c[name], value) for name, value in given.items())
