"""What is in the database, counted: read from summaries, at a cost that history does not raise."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa
from pydantic import BaseModel

from batuta.conductor.database.schema import counts
from batuta.service.database import insert, reading

_JOINED: Final = 0
"""The part in which the others are joined."""
_KEY: Final = (counts.c.counted, counts.c.product, counts.c.provider, counts.c.state)
_NUMBER: Final = sa.cast(sa.func.sum(counts.c.number), sa.BigInteger).label("number")


class ProductSummary(BaseModel):
    """A product: of how many observations it is available, and its processings by state."""

    product: str
    available: int
    processings: dict[str, int]


class ProviderSummary(BaseModel):
    """A provider, and its processings by state."""

    provider: str
    processings: dict[str, int]


class Summary(BaseModel):
    """All that the conductor has recorded, counted.

    `stale` are the products that are stale, `to_approve` what waits for a person.
    """

    observations: int
    processings: dict[str, int]
    products: list[ProductSummary]
    providers: list[ProviderSummary]
    stale: int = 0
    to_approve: int = 0


@dataclass
class Counts:
    """What is counted, as it is at one moment.

    Attributes
    ----------
    observations : int
        Observations with an available product.
    available : Counter
        Observations for which a product is available, by product.
    processings : Counter
        By (product, provider, state).
    """

    observations: int = 0
    available: Counter[str] = field(default_factory=Counter)
    processings: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def passing(self, exact: Mapping[str, str]) -> int:
        """Return how many processings have these values, of ``product, provider, state``."""
        names = ("product", "provider", "state")
        return sum(
            number
            for key, number in self.processings.items()
            if exact.items() <= dict(zip(names, key, strict=True)).items()
        )

    def by_state(self) -> dict[str, int]:
        """Return the number of processings in each state that has any."""
        return dict(_sum((state, n) for (_, _, state), n in self.processings.items()))

    def summary(self) -> Summary:
        """Return it as REST shows it."""
        products = _grouped((key[0], key[2], n) for key, n in self.processings.items())
        providers = _grouped((key[1], key[2], n) for key, n in self.processings.items())
        return Summary(
            observations=self.observations,
            processings=self.by_state(),
            products=[
                ProductSummary(
                    product=name, available=self.available[name], processings=products.get(name, {})
                )
                for name in sorted({*products, *self.available})
            ],
            providers=[
                ProviderSummary(provider=name, processings=states)
                for name, states in sorted(providers.items())
            ],
        )


def read_counts(connection: sa.Connection) -> Counts:
    """Read what is counted; its cost grows with the graph, and not with history."""
    found = Counts()
    query = sa.select(*_KEY, _NUMBER).group_by(*_KEY).having(_NUMBER != 0)
    for counted, product, provider, state, number in connection.execute(query):
        if counted == "processing":
            found.processings[product, provider, state] = number
        elif counted == "available":
            found.available[product] = number
        else:
            found.observations = number
    return found


def join_parts(engine: sa.Engine) -> None:
    """Join the parts that connections of the past have left; those in use stay.

    A part is locked by its connection from its first change to its commit. Passing over those, this
    waits for nobody; and what it deletes and adds is one transaction.
    """
    with reading(engine) as connection:
        if (
            connection.scalar(sa.select(counts.c.part).where(counts.c.part != _JOINED).limit(1))
            is None
        ):
            return
    with engine.begin() as connection:
        _join_parts(connection)


def _join_parts(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(1414213562)"))
    free = connection.execute(
        sa.select(counts).where(counts.c.part != _JOINED).with_for_update(skip_locked=True)
    ).all()
    sums: Counter[tuple[str, ...]] = Counter()
    for part, *key, number in free:
        sums[tuple(key)] += number
        connection.execute(
            sa.delete(counts).where(counts.c.part == part, sa.tuple_(*_KEY) == tuple(key))
        )
    names = [column.name for column in _KEY]
    statement = insert(connection, counts)
    statement = statement.on_conflict_do_update(
        index_elements=["part", *names],
        set_={"number": counts.c.number + statement.excluded.number},
    )
    rows = [
        {"part": _JOINED, **dict(zip(names, key, strict=True)), "number": number}
        for key, number in sums.items()
    ]
    if rows:
        connection.execute(statement, rows)


def _sum(pairs: Iterable[tuple[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for name, number in pairs:
        total[name] += number
    return total


def _grouped(rows: Iterable[tuple[str, str, int]]) -> dict[str, dict[str, int]]:
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, state, number in rows:
        found[name][state] += number
    return {name: dict(states) for name, states in found.items()}
