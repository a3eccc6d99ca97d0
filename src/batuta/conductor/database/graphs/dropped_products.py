"""Products that earlier versions of the graph made, and the one in force does not."""

import json
from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from batuta.conductor.database.current_graph import CurrentGraph
from batuta.conductor.database.schema import graph_versions as table

_EARLIER: Final = (
    sa.select(table.c.number, table.c.document)
    .where(table.c.number < sa.bindparam("number"))
    .order_by(table.c.number.desc())
)
MAX_NAMED: Final = 5
"""Products that the problem of a set names."""


def why_not_made(connection: sa.Connection, current: CurrentGraph, product: str) -> str | None:
    """Say that the graph in force does not make a product, in one line; None if it does."""
    in_force = current.in_force
    if product in in_force.graph.products:
        return None
    statement = f"{product} is not made by version {in_force.number} of the graph, now in force"
    last = last_with(connection, current, product)
    if last is None:
        return f"{statement} (batuta graph apply puts one in force that makes it)"
    return (
        f"{statement} (version {last + 1} dropped it; batuta graph apply --version {last} goes "
        "back, or apply a graph that makes it)"
    )


def last_with(connection: sa.Connection, current: CurrentGraph, product: str) -> int | None:
    """Return the number of the last version before that in force that makes a product, if any."""
    rows = connection.execute(_EARLIER, {"number": current.number})
    return next((row.number for row in rows if product in _products(row.document)), None)


def refused_of(current: CurrentGraph, by_product: Mapping[str, int]) -> dict[str, int]:
    """Return how many of each product that the graph in force does not make, of a set."""
    made = current.graph.products
    return {name: number for name, number in by_product.items() if name not in made}


def set_problem(
    connection: sa.Connection, current: CurrentGraph, by_product: Mapping[str, int]
) -> str | None:
    """Say how many of a set are not retried, since nothing makes them now; None if all are."""
    refused = refused_of(current, by_product)
    if not refused:
        return None
    whys = [why_not_made(connection, current, name) or "" for name in sorted(refused)[:MAX_NAMED]]
    more = f"; and {len(refused) - MAX_NAMED} more products" if len(refused) > MAX_NAMED else ""
    return f"{sum(refused.values())} refused: {'; '.join(whys)}{more}"


def _products(document: str) -> Mapping[str, object]:
    found: Mapping[str, object] = json.loads(document)["products"]
    return found
