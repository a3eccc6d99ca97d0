"""Earlier claims of a product: those that take new inputs, and those tried again for them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import sqlalchemy as sa

from batuta.conductor.database.claiming.claim_rows import new_row
from batuta.conductor.database.claiming.earlier_inputs import REPLACED, with_inputs
from batuta.conductor.database.claiming.updates import UNSENT, asked_again
from batuta.conductor.database.current_graph import ReadsGraph
from batuta.conductor.database.records import MAX_IN, locked_rows, record_of, write_changes
from batuta.conductor.database.schema import processings as table
from batuta.conductor.database.statements import FAILED_AMONG, insert_claims
from batuta.conductor.decisions.commands import retry_with_newer_inputs
from batuta.conductor.decisions.rules import MANUAL, Claim, takes_inputs_while_it_waits
from batuta.messaging import ProcessingState as State


class EarlierClaims(ReadsGraph):
    """Has new claims join or renew earlier ones, in the transaction of its caller."""

    def retry_failed(
        self, connection: sa.Connection, claims: Sequence[Claim], now: float
    ) -> set[str]:
        """Reset the attempts of processings that failed for an input which now has a newer version.

        Returns their ids.

        A claim whose key has the versions of all its inputs is another one with each of them: of
        these, none is newer.
        """
        by_id = {each.processing_id: each for each in claims}
        ids = list(by_id)
        retried: set[str] = set()
        for start in range(0, len(ids), MAX_IN):
            some = {"ids": ids[start : start + MAX_IN]}
            rows = locked_rows(connection, list(connection.scalars(FAILED_AMONG, some)))
            for row in rows.values():
                claim, before = by_id[row.id], record_of(row)
                if before.withdrawn_input is not None:
                    retried |= self._claim_after(connection, claim, now)
                    continue
                after = retry_with_newer_inputs(
                    before, claim.product, row.inputs, claim.inputs, now
                )
                if after is not None:
                    write_changes(connection, [(before, self._current.decided(after))])
                    connection.execute(
                        sa.update(table)
                        .where(table.c.id == row.id)
                        .values(with_inputs(row, claim.inputs))
                    )
                    retried.add(row.id)
        return retried

    def _claim_after(self, connection: sa.Connection, claim: Claim, now: float) -> set[str]:
        """Claim what was stopped by a withdrawal once more; return the id, if it is new.

        Under an id of its own: what was stopped may still import its product.
        """
        ids: dict[str, Claim] = {}
        while True:
            claim = replace(claim, again=claim.again + 1)
            ids[claim.processing_id] = claim
            rows = locked_rows(connection, [claim.processing_id])
            if not rows or record_of(rows[claim.processing_id]).withdrawn_input is None:
                break
        if not rows:
            row = new_row(claim, now, now) | {"graph_version": self._current.number}
            connection.execute(insert_claims(connection.dialect.name), [row])
            return {claim.processing_id}
        return self.retry_failed(connection, [claim], now)

    def refresh_inputs(
        self, connection: sa.Connection, claims: Iterable[Claim]
    ) -> dict[tuple[str, str], str]:
        """Add to claims that have not been requested yet the inputs that have come since.

        Returns the ids of the processings that this has changed, by (obs_id, product).
        """
        joined: dict[tuple[str, str], str] = {}
        for claim in claims:
            same = (table.c.obs_id == claim.obs_id, table.c.product == claim.product.name)
            found = connection.execute(
                sa.select(
                    table.c.id,
                    table.c.claim,
                    table.c.state,
                    *REPLACED,
                    UNSENT.label("unsent"),
                )
                .where(*same, table.c.claim.not_like(f"{MANUAL}%"))
                .where(sa.or_(UNSENT, table.c.claim == claim.key), _joins(claim))
                .order_by(table.c.created.desc())
            ).all()
            equal = next((row for row in found if row.claim == claim.key), None)
            # If an equal claim was sent already, there is nothing to refresh.
            row = equal or next(iter(found), None)
            if row is None or not (row.unsent or row.state == State.RETRYING):
                continue
            if (row.claim, row.inputs) != (claim.key, claim.inputs):
                connection.execute(
                    sa.update(table)
                    .where(table.c.id == row.id)
                    .values(
                        {
                            **with_inputs(row, claim.inputs),
                            "claim": claim.key,
                            "stage": claim.stage,
                            **asked_again(claim),
                        }
                    )
                )
                joined[claim.obs_id, claim.product.name] = row.id
        return joined


def _joins(claim: Claim) -> sa.ColumnElement[bool]:
    """Return which claims that wait a new one may join: of another stage, it is another."""
    if takes_inputs_while_it_waits(claim.product):
        return sa.true()
    return table.c.stage.is_not_distinct_from(claim.stage)
