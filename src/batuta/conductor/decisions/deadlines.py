"""By when a product is to be there, and from when it is not worth making any more."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.conductor.decisions.rules import Arrival
from batuta.graph import DueFrom, Graph, Product
from batuta.messaging import ProcessingState as State

MAX_EVENT_AGE_S: Final = 366 * 86_400.0
"""An event whose own time is further back than a year, in seconds, was sent by a wrong clock."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """Of a product of an observation; times are seconds since 1970, None for no such time."""

    obs_id: str
    product: str
    due: float | None
    expires: float | None


def event_time(told: float | None, received: float) -> float:
    """Return the time that counts for an event, of which its sender says that it is of `told`.

    No sender can know of a time to come, nor is news that is older than a year worth a deadline:
    a clock that says so is wrong, and the time at which the event was received counts.
    """
    if told is None or not received - MAX_EVENT_AGE_S <= told <= received:
        return received
    return told


def deadlines_for(
    graph: Graph,
    arrivals: Iterable[Arrival],
    available: Mapping[str, Mapping[str, int]],
    now: float,
) -> Iterator[Deadline]:
    """Yield the deadlines that the arrival of inputs sets, `now`.

    A product that is `available` has none. Of several inputs, the earliest time counts: it is for
    the caller to keep the earliest of what is yielded for one product of one observation.
    """
    inputs = frozenset(graph.inputs)
    for arrival in arrivals:
        if arrival.product not in inputs:
            continue
        for product in graph.with_deadlines_after(arrival.product):
            if product.name in available.get(arrival.obs_id, ()):
                continue
            told = arrival.event_time if product.due_from is DueFrom.EVENT_TIME else None
            start = event_time(told, now)
            yield Deadline(
                arrival.obs_id,
                product.name,
                None if product.due_s is None else start + product.due_s,
                None if product.expires_s is None else start + product.expires_s,
            )


def expire(record: ProcessingRecord, product: Product, now: float) -> ProcessingRecord | None:
    """Return `record` cancelled because `product` has expired; None if it has ended or is made.

    What its pipeline has begun may end.
    """
    if record.state not in (State.UNAPPROVED, State.WAITING, State.RETRYING, State.HELD):
        return None
    last = f"; attempt {record.attempt}: {record.error}" if record.error else ""
    return replace(record, state=State.CANCELLED, error=expired_text(product) + last, ended=now)


def expired_text(product: Product) -> str:
    """Say that a product is not worth making any more."""
    return (
        f"{product.name} has expired: it was not made within {product.expires_s or 0:g} s of "
        f"{product.due_from.words}"
    )
