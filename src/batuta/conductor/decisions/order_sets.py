"""Orders given for whole sets of processings: which states they are for, and what they change."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from batuta.conductor.decisions.commands import cancel, retry
from batuta.conductor.decisions.processing_record import GIVEN_UP, ProcessingRecord
from batuta.graph import Product
from batuta.messaging import ProcessingState as State


class SetCommand(StrEnum):
    """What may be ordered for a set."""

    CANCEL = "cancel"
    RETRY = "retry"


STATES: Final = {
    SetCommand.CANCEL: (
        State.UNAPPROVED,
        State.WAITING,
        State.HELD,
        State.RETRYING,
        State.REQUESTED,
        State.QUEUED,
        State.RUNNING,
    ),
    SetCommand.RETRY: (State.RETRYING, State.FAILED, State.CANCELLED),
}
"""The states that a command is for, in the order in which they are looked through.

It is that in which processings go through them: what moves on meanwhile is met later.
"""
TOLD: Final = {SetCommand.CANCEL: "cancelled", SetCommand.RETRY: "retried, with all attempts again"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """What was ordered, when (in seconds since 1970), by whom and why."""

    command: SetCommand
    at: float
    by: str
    reason: str | None


def carry_out(
    ordered: Ordered, record: ProcessingRecord, product: Product | None, now: float
) -> ProcessingRecord | None:
    """Return `record` as the order changes it; None if it does not.

    An order that a restart repeats changes nothing twice: what was retried by it and has failed
    again since is not retried once more.
    """
    if record.state not in STATES[ordered.command]:
        return None
    if ordered.command is SetCommand.CANCEL:
        return cancel(record, ordered.reason or f"cancelled by {ordered.by}", now)
    if record.state in GIVEN_UP and (record.ended or 0.0) > ordered.at:
        return None
    return retry(record, product, now)


def looks_again(command: SetCommand, changed: int) -> bool:
    """Return whether all states are looked through once more, after `changed` were changed.

    What goes back to an earlier state meanwhile (a pipeline that was busy) is met then.
    """
    return command is SetCommand.CANCEL and changed > 0
