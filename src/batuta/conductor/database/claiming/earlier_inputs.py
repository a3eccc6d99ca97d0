"""What a processing was made from before it took other inputs.

An attempt that was given up may still be under way, and import its product: made from the inputs
that it was requested with. By then the processing may have taken others, for its next attempt. The
product ends it, as all attempts of a processing import one product; so what that was made from is
recorded again.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.records import Row
from batuta.conductor.database.schema import processings as table
from batuta.conductor.decisions.events import Archived
from batuta.conductor.decisions.processing_record import ProcessingRecord

REPLACED: Final = (
    table.c.attempt,
    table.c.inputs,
    table.c.stage,
    table.c.earlier_attempts,
    table.c.earlier_inputs,
)
"""The columns that `with_inputs` needs of a row."""


def with_inputs(row: Row, inputs: Mapping[str, int]) -> Mapping[str, Any]:
    """Return the columns of a processing that takes other inputs for its next attempt."""
    taken: dict[str, Any] = {"inputs": dict(inputs)}
    if row.attempt > row.earlier_attempts:
        before = {"attempts": row.attempt, "inputs": row.inputs, "stage": row.stage}
        taken["earlier_attempts"] = row.attempt
        taken["earlier_inputs"] = [*(row.earlier_inputs or ()), before]
    return taken


def restore_inputs(
    connection: sa.Connection, made: Iterable[Archived], records: Iterable[ProcessingRecord]
) -> None:
    """Record what imported products were made from, where attempts of before made them.

    Parameters
    ----------
    made : iterable of Archived
        What was imported.
    records : iterable of ProcessingRecord
        The processings that it names, as they were before.
    """
    late = {each.id: each for each in records if each.earlier_attempts}
    if not late:
        return
    for event in made:
        record = late.get(event.processing_id)
        if record is None or (event.product, event.obs_id) != (record.product, record.obs_id):
            continue
        if event.made_in is not None and event.made_in <= record.earlier_attempts:
            _restore(connection, record, event.made_in)


def _restore(connection: sa.Connection, record: ProcessingRecord, attempt: int) -> None:
    same = table.c.id == record.id
    row = connection.execute(sa.select(table.c.earlier_inputs).where(same)).one()
    earlier: Sequence[Mapping[str, Any]] = row.earlier_inputs or ()
    # None where this product was announced twice at once: the first time has restored them.
    place = next((at for at, each in enumerate(earlier) if attempt <= each["attempts"]), None)
    if place is None:
        return
    restored = {
        "inputs": earlier[place]["inputs"],
        "stage": earlier[place]["stage"],
        "earlier_attempts": earlier[place - 1]["attempts"] if place else 0,
        "earlier_inputs": earlier[:place] or None,
    }
    connection.execute(sa.update(table).where(same).values(restored))
