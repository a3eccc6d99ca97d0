"""What the services have recorded, read from their databases."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.schema import processings, stops
from batuta.pipeline.schema import processings as pipeline_processings
from batuta.sdb.tables import OUTBOX, PRODUCTS
from tests.support.chaos.orchestra import Orchestra
from tests.support.chaos.plan import SDB

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Counts:
    """How far it is.

    Attributes
    ----------
    made : int
        The versions of products in the sdb, those of inputs left out.
    under_way : tuple of str
        What has not ended yet.
    """

    made: int
    under_way: tuple[str, ...]


class Records:
    """The databases of an orchestra; services may run meanwhile."""

    def __init__(self, orchestra: Orchestra) -> None:
        self._orchestra = orchestra
        self._engines: dict[str, sa.Engine] = {}

    def close(self) -> None:
        """Close all connections."""
        for engine in self._engines.values():
            engine.dispose()

    def rows(self, service: str, select: sa.Select[Any]) -> list[Row]:
        """Return what a service has recorded."""
        with self._engine(service).connect() as connection:
            return [dict(row) for row in connection.execute(select).mappings()]

    def versions(self) -> list[Row]:
        """Return all versions of the sdb, in the order of their imports."""
        return self.rows(SDB, sa.select(PRODUCTS).order_by(PRODUCTS.c.id))

    def claims(self) -> list[Row]:
        """Return the processings of the conductor."""
        return self.rows(self._orchestra.topology.conductors[0], sa.select(processings))

    def counts(self) -> Counts:
        """Return how far it is."""
        orchestra = self._orchestra
        made = sa.select(sa.func.count()).where(PRODUCTS.c.product.like("P%"))
        found = self._states(orchestra.topology.conductors[0], processings)
        for name in orchestra.topology.pipelines:
            found += self._states(name, pipeline_processings)
        for name, table in (
            (SDB, OUTBOX),
            (orchestra.topology.conductors[0], stops),
        ):
            number = self._number(name, sa.select(sa.func.count()).select_from(table))
            if number:
                found.append(f"{name}: {number} in {table.name}")
        return Counts(self._number(SDB, made), tuple(found))

    def _states(self, name: str, table: sa.Table) -> list[str]:
        counted = sa.select(table.c.state, sa.func.count().label("number"))
        rows = self.rows(name, counted.where(table.c.ended.is_(None)).group_by(table.c.state))
        return [f"{name}: {row['number']} {row['state']}" for row in rows]

    def _number(self, name: str, select: sa.Select[Any]) -> int:
        with self._engine(name).connect() as connection:
            return int(connection.execute(select).scalar_one())

    def _engine(self, service: str) -> sa.Engine:
        if service not in self._engines:
            url = sa.make_url(self._orchestra.database_urls[service])
            if url.get_backend_name() == "postgresql":
                url = url.set(drivername="postgresql+psycopg")
            self._engines[service] = sa.create_engine(url, poolclass=sa.NullPool)
        return self._engines[service]


UNAVAILABLE: Final = sa.exc.DBAPIError
"""What reading raises while a disk is full, or a service has just been started."""


def in_words(rows: Iterable[Row]) -> list[str]:
    """Return what processings are, a line each."""
    return [
        f"{row['product']} of {row['obs_id']}: {row['state']}, attempt {row['attempt']}, "
        f"{row['error'] or 'no error'}"
        for row in rows
    ]
