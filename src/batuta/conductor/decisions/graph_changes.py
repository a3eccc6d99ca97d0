"""What a graph that is put in force changes of what waits, and starts: functions of values."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Final

from batuta.conductor.decisions.approvals import first_state
from batuta.conductor.decisions.commands import priority_of, renew
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.conductor.decisions.rules import NOTHING_TOLD, Claim, inherited_class
from batuta.conductor.decisions.stages import Staged
from batuta.graph import Graph, Product
from batuta.messaging import ProcessingState as State
from batuta.work_classes import WorkClass

NOT_SENT: Final = frozenset({State.UNAPPROVED, State.WAITING, State.RETRYING, State.HELD})
"""States of processings that a graph may still change; what is at its provider ends as it began."""


def under_graph(
    record: ProcessingRecord,
    product: Product | None,
    available: Collection[str],
    number: int,
    now: float,
) -> ProcessingRecord | None:
    """Return `record` as a graph that is in force `now` has it; None if that changes nothing.

    What waits is made as that graph says: by its provider, with its priority. What it does not
    make from what is available is set aside, that is cancelled until a graph makes it again; then
    it continues, with all its attempts.

    Parameters
    ----------
    product : Product or None
        Its product in that graph; None if the graph does not have it.
    available : collection of str
        The products that are available for its observation.
    number : int
        The version of that graph.
    """
    if record.state in NOT_SENT:
        if record.graph_version == number:
            return None
        reason = why_not(record.product, product, available, number)
        if reason is not None or product is None:
            return _set_aside(record, reason or "", number, now)
        return _made_by(record, product, number)
    if record.set_aside is None or product is None or not product.ready(available):
        return None
    return continued(record, product, number, now)


def continued(
    record: ProcessingRecord, product: Product, number: int, now: float
) -> ProcessingRecord:
    """Return `record`, which was set aside, to be made as a graph says that makes it."""
    after = renew(record, product, now)
    return replace(after, error=None, graph_version=number, set_aside=None)


def why_not(
    name: str, product: Product | None, available: Collection[str], number: int
) -> str | None:
    """Say why a graph does not make a product from what is available; None if it does."""
    if product is None:
        return f"{name} is not in version {number} of the graph"
    lacks = product.lacks(available)
    if not lacks:
        return None
    return (
        f"version {number} of the graph makes {name} from what is not available: {', '.join(lacks)}"
    )


def never_asked_for(
    graph: Graph,
    obs_id: str,
    available: Mapping[str, int],
    asked_for: Collection[str],
    told: Mapping[str, WorkClass] = NOTHING_TOLD,
    work_class: WorkClass | None = None,
    staged: Staged | None = None,
) -> Iterator[Claim]:
    """Yield what `graph` makes for an observation, that is not there and was never asked for.

    Parameters
    ----------
    available : mapping
        Version of each product that is available, by name.
    asked_for : collection of str
        The products of which there is a processing, however that ended.
    told : mapping
        The classes that were told of what is available, by name.
    work_class : WorkClass or None
        The class of what is started; None for that which each inherits.
    staged : Staged or None
        What is known of their stages; None if none is told of any.
    """
    for name in startable(graph, frozenset(available), frozenset(asked_for)):
        product = graph.products[name]
        usable, stage = available, None
        if staged is not None:
            usable = staged.usable(product, available)
            stage = staged.stage_from(product, usable)
        if product.ready(usable):
            inputs = {each: usable[each] for each in product.sources if each in usable}
            told_class = work_class or inherited_class(product, (), told)
            yield Claim(product, obs_id, inputs, told_class, stage)


def startable(
    graph: Graph, available: frozenset[str], asked_for: frozenset[str]
) -> tuple[str, ...]:
    """Return the products that `graph` makes from what is available, and that were never made."""
    return tuple(
        name
        for name, product in graph.products.items()
        if name not in available and name not in asked_for and product.ready(available)
    )


def following(
    graph: Graph, available: frozenset[str], asked_for: frozenset[str], started: Collection[str]
) -> frozenset[str]:
    """Return what is made, in the end, of what is `started` now."""
    if not started:
        return frozenset()
    after = frozenset[str]().union(*(graph.after(name) for name in started))
    made = graph.reachable(available.union(asked_for, started))
    return (after & made) - available - asked_for - frozenset(started)


def _set_aside(record: ProcessingRecord, reason: str, number: int, now: float) -> ProcessingRecord:
    last = f"; attempt {record.attempt}: {record.error}" if record.error else ""
    return replace(
        record,
        state=State.CANCELLED,
        error=reason + last,
        ended=now,
        graph_version=number,
        set_aside=number,
    )


def _made_by(record: ProcessingRecord, product: Product, number: int) -> ProcessingRecord:
    after = replace(
        record,
        state=_state_of(record, product),
        provider=product.provider,
        priority=priority_of(record, product),
        timeout_s=product.timeout_s,
        work_class=record.told_class or product.work_class,
        # Of those that were begun, the attempts that are left.
        max_attempts=record.max_attempts if record.attempt else product.max_attempts,
        graph_version=number,
    )
    if after.provider != record.provider:
        # What another one has shown, and called it, says nothing of this one.
        return replace(after, interface=None, pipeline_id=None, instance=None)
    return after


def _state_of(record: ProcessingRecord, product: Product) -> State:
    """Return whether it waits for a person, or not, as the graph says that its product does."""
    if record.attempt:
        return record.state
    first = first_state(product, approved=record.approved)
    keeps = record.state is not State.UNAPPROVED and first is State.WAITING
    return record.state if keeps else first
