"""Waiting for optional inputs: how long a claim waits, and the end of waits that are over."""

from collections.abc import Iterable, Mapping
from typing import Final

import sqlalchemy as sa

from batuta.conductor.database.claiming.updates import UNSENT
from batuta.conductor.database.current_graph import ReadsGraph
from batuta.conductor.database.schema import processings as table
from batuta.conductor.database.statements import INPUT_TIMES
from batuta.conductor.decisions.rules import (
    Claim,
    InputTimes,
    pending_optional_inputs,
    wait_ends_at,
)
from batuta.graph import WaitFrom
from batuta.messaging import ProcessingState as State

UNSUCCESSFUL: Final = frozenset({State.FAILED, State.CANCELLED})
"""States of a processing that will bring no product."""


class OptionalWaits(ReadsGraph):
    """Tells and ends the waits of claims, in the transaction of its caller."""

    def end_over(
        self,
        connection: sa.Connection,
        claims: Iterable[Claim],
        versions: Mapping[str, Mapping[str, int]],
        now: float,
    ) -> None:
        """Make due now the claims whose optional inputs are all available, or will not come.

        A wait that is counted from the last input ends later with each.
        """
        for claim in claims:
            end = self.end_of(connection, claim, versions[claim.obs_id], now)
            if end > now and claim.product.o_wait_from is not WaitFrom.LAST_INPUT:
                continue
            connection.execute(
                sa.update(table)
                .where(
                    table.c.obs_id == claim.obs_id,
                    table.c.product == claim.product.name,
                    UNSENT,
                    table.c.not_before > now,
                )
                .values(not_before=end)
            )

    def end_of(
        self, connection: sa.Connection, claim: Claim, versions: Mapping[str, int], now: float
    ) -> float:
        """Return until when to wait for the claim's optional inputs that will still come."""
        if claim.product.o_wait_s <= 0:
            return now
        if claim.stage is not None:
            # What is of too low a stage for it is not among its inputs, and may still rise.
            versions = _without_unused(claim, versions)
        states = connection.execute(
            sa.select(table.c.product, table.c.state).where(table.c.obs_id == claim.obs_id)
        ).all()
        open_ = {row.product for row in states if not State(row.state).ended}
        failed = frozenset(row.product for row in states if row.state in UNSUCCESSFUL) - open_
        pending = pending_optional_inputs(self._graph, claim.product, versions, failed)
        if not pending:
            return now
        return wait_ends_at(claim.product, self._input_times(connection, claim), now)

    def _input_times(self, connection: sa.Connection, claim: Claim) -> InputTimes | None:
        """Return when inputs of the observation arrived, where the wait is counted from that."""
        if claim.product.o_wait_from is WaitFrom.COMPLETE:
            return None
        wanted = {"obs_id": claim.obs_id, "inputs": list(self._graph.inputs)}
        first, last = connection.execute(INPUT_TIMES, wanted).one()
        return None if first is None else InputTimes(first, last)


def _without_unused(claim: Claim, versions: Mapping[str, int]) -> dict[str, int]:
    unused = set(claim.product.o_input).difference(claim.inputs)
    return {name: version for name, version in versions.items() if name not in unused}
