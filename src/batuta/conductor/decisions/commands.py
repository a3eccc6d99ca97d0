"""What operators' commands and corrected inputs change of a processing."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from batuta.conductor.decisions.approvals import first_state
from batuta.conductor.decisions.processing_record import TO_BE_MADE, ProcessingRecord
from batuta.graph import Product
from batuta.messaging import ProcessingState as State
from batuta.work_classes import WorkClass


def cancel(record: ProcessingRecord, reason: str, now: float) -> ProcessingRecord | None:
    """Return `record` cancelled by an operator; None if it has ended."""
    if record.state.ended:
        return None
    return replace(record, state=State.CANCELLED, error=reason, ended=now)


def retry(record: ProcessingRecord, product: Product | None, now: float) -> ProcessingRecord | None:
    """Return `record` with all its attempts again, now; None unless it failed or was cancelled.

    One whose last attempt failed, and that waits for the next one, is tried at once. `product` is
    what the graph says of it now: the graph may have been corrected since, which may be why it is
    retried. None if the graph no longer has it: then it is not retried.
    """
    if product is None or record.state not in (State.FAILED, State.CANCELLED, State.RETRYING):
        return None
    return renew(record, product, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Urgency:
    """How urgent an operator wants something: its class, and its priority within; None: as it is.

    What follows from it inherits the class.
    """

    work_class: WorkClass | None = None
    priority: int | None = None

    @property
    def given(self) -> Mapping[str, str | int]:
        """What is given, by the names that REST has."""
        values = {"class": self.work_class, "priority": self.priority}
        return {name: value for name, value in values.items() if value is not None}

    def words(self) -> str:
        """Say it for people: ``class alert and priority 5``."""
        return " and ".join(f"{name} {value}" for name, value in self.given.items())


NO_OTHER_URGENCY: Final = Urgency()


def reprioritize(record: ProcessingRecord, urgency: Urgency) -> ProcessingRecord | None:
    """Return `record`, which is to be made, of another urgency; None if it has that, or ended.

    It keeps that when it is retried, and whatever graph is put in force.
    """
    if record.state not in TO_BE_MADE:
        return None
    after = record
    if urgency.work_class is not None:
        after = replace(after, work_class=urgency.work_class, told_class=urgency.work_class)
    if urgency.priority is not None:
        after = replace(after, priority=urgency.priority, told_priority=urgency.priority)
    return None if after == record else after


def remake(
    record: ProcessingRecord, product: Product | None, now: float
) -> ProcessingRecord | None:
    """Return `record`, which succeeded, to be run again; None if it did not succeed.

    Its product was lost: the sdb does not hold it any more.
    """
    if record.state is not State.SUCCEEDED:
        return None
    return replace(
        renew(record, product, now),
        remake=True,
        error=f"made again: the sdb no longer holds {record.product}",
    )


def withdraw(
    record: ProcessingRecord, version: int, reason: str | None, now: float
) -> ProcessingRecord | None:
    """Return `record`, which succeeded, once its product was withdrawn; None if it did not succeed.

    It has failed then: a person may retry it, and a newer version of its inputs makes it again.
    """
    if record.state is not State.SUCCEEDED:
        return None
    why = f": {reason}" if reason else ""
    return replace(
        record,
        state=State.FAILED,
        remake=True,
        error=f"version {version} of {record.product} was withdrawn{why}",
        ended=now,
    )


def stop_withdrawn(
    record: ProcessingRecord, product: str, version: int, reason: str | None, now: float
) -> ProcessingRecord | None:
    """Return `record` stopped because a version that it is made from was withdrawn.

    None if it has ended: what it made is stale. A late answer changes nothing any more.
    """
    if record.state.ended:
        return None
    why = f": {reason}" if reason else ""
    return replace(
        record,
        state=State.CANCELLED,
        withdrawn_input=f"version {version} of {product}",
        error=f"stopped: version {version} of {product}, which it is made from, was withdrawn{why}",
        ended=now,
    )


def supersede(record: ProcessingRecord, by: str, now: float) -> ProcessingRecord | None:
    """Return `record`, which waits to be asked for again, cancelled for newer inputs; else None.

    Asked for later, the older inputs would be archived last. It waits as well, and not as what is
    retried, if its provider was full or was left alone at the last request, the first one too.
    """
    if record.state not in {State.RETRYING, State.WAITING} or record.requested is None:
        return None
    error = f"superseded: {record.product} is to be made from {by}"
    return replace(record, state=State.CANCELLED, error=error, ended=now)


def retry_with_newer_inputs(
    record: ProcessingRecord,
    product: Product,
    claimed: Mapping[str, int],
    available: Mapping[str, int],
    now: float,
) -> ProcessingRecord | None:
    """Return `record`, which has failed, with all its attempts again; None if nothing is newer.

    Its product was never made, so `on_update`, which is about products that were, does not
    matter: what was wrong may have been the input, and this is the corrected one. What a person
    cancelled stays cancelled; what was set aside because the graph makes it from more is made.

    Parameters
    ----------
    claimed, available : mapping
        Versions of its inputs, by name: those that it was claimed from, and those there are now.
    """
    if record.set_aside is not None:
        # The graph made it from more than there was: that is there now.
        return replace(renew(record, product, now), error=None)
    if record.state is not State.FAILED:
        return None
    newer = [
        f"{name} v{available[name]}"
        for name, version in claimed.items()
        # Of a higher stage, or once the newest was withdrawn, an earlier one may have come since.
        if available.get(name, version) != version
    ]
    if not newer:
        return None
    # The suffix of an earlier correction goes: each would make the text longer.
    cause = (record.error or "").partition(_CORRECTED)[0]
    return replace(
        # What was approved is not this: it is made from other versions.
        renew(replace(record, approved=False), product, now),
        error=f"{cause}{_CORRECTED}{', '.join(newer)} has arrived since",
    )


def priority_of(record: ProcessingRecord, product: Product) -> int:
    """Return the priority of a processing: that which was told, else that of the graph."""
    return product.priority if record.told_priority is None else record.told_priority


_CORRECTED: Final = "; to be made again: "


def renew(record: ProcessingRecord, product: Product | None, now: float) -> ProcessingRecord:
    """Return `record` to be requested now, with all attempts again, as the graph has `product`."""
    more = product.max_attempts if product else 1
    after = replace(
        record,
        state=first_state(product, approved=record.approved),
        max_attempts=record.attempt + more,
        not_before=now,
        ended=None,
        withdrawn_input=None,
    )
    if product is None:
        return after
    return replace(
        after,
        provider=product.provider,
        priority=priority_of(after, product),
        timeout_s=product.timeout_s,
        work_class=after.told_class or product.work_class,
    )
