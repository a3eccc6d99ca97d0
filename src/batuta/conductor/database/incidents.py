"""What went wrong besides processings, with when it did; read by the reports of a span of time.

Written only when something is late, has expired, or an address stops answering.
"""

from collections.abc import Iterable
from typing import Final

import sqlalchemy as sa

from batuta.conductor.database.records import Row
from batuta.conductor.database.schema import incidents as table
from batuta.conductor.decisions.circuits import Circuit
from batuta.conductor.decisions.reports import Incident

_INSERT: Final = sa.insert(table)


def record_missed(
    connection: sa.Connection, passed: Iterable[Row], now: float, what: Incident
) -> None:
    """Record the deadlines that have passed."""
    rows = [
        {"at": now, "what": what.value, "obs_id": row.obs_id, "product": row.product}
        for row in passed
    ]
    connection.execute(_INSERT, rows)


def record_circuit(connection: sa.Connection, circuit: Circuit, what: Incident) -> None:
    """Record that an address of a provider is left alone, or was taken for lost."""
    at = circuit.lost if what is Incident.LOST else circuit.since
    values = {"at": at, "what": what.value, "reason": circuit.reason}
    values |= {"provider": circuit.provider, "instance": circuit.instance}
    connection.execute(_INSERT, values)
