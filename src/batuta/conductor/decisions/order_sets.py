"""What operators order for one processing or for sets: for which states, and what it changes."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from batuta.conductor.decisions.commands import (
    NO_OTHER_URGENCY,
    Urgency,
    cancel,
    reprioritize,
    retry,
)
from batuta.conductor.decisions.processing_record import GIVEN_UP, TO_BE_MADE, ProcessingRecord
from batuta.graph import Product
from batuta.messaging import ProcessingState as State


class SetCommand(StrEnum):
    """What may be ordered for one, or for a set."""

    CANCEL = "cancel"
    RETRY = "retry"
    REPRIORITIZE = "reprioritize"


STATES: Final = {
    SetCommand.CANCEL: (*TO_BE_MADE, State.REQUESTED, State.QUEUED, State.RUNNING),
    SetCommand.RETRY: (State.RETRYING, State.FAILED, State.CANCELLED),
    SetCommand.REPRIORITIZE: TO_BE_MADE,
}
"""The states that a command is for, in the order in which they are looked through.

It is that in which processings go through them: what moves on meanwhile is met later.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """What was ordered, when (in seconds since 1970), by whom and why.

    `urgency` is what a processing is given; nothing, unless it is ordered to be made, or to be of
    another urgency. `may_be_repeated` if a restart may carry it out again for the same processing:
    of a set, whose batches it goes on with.
    """

    command: SetCommand
    at: float
    by: str
    reason: str | None = None
    urgency: Urgency = NO_OTHER_URGENCY
    may_be_repeated: bool = False

    def told(self) -> str:
        """Say what became of a processing that it has changed."""
        match self.command:
            case SetCommand.CANCEL:
                return "cancelled"
            case SetCommand.RETRY:
                return "retried, with all attempts again"
            case SetCommand.REPRIORITIZE:
                return f"given {self.urgency.words()}"


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
    if ordered.command is SetCommand.REPRIORITIZE:
        return reprioritize(record, ordered.urgency)
    ended_since = record.state in GIVEN_UP and (record.ended or 0.0) > ordered.at
    if ended_since and ordered.may_be_repeated:
        return None
    retried = retry(record, product, now)
    return None if retried is None else reprioritize(retried, ordered.urgency) or retried


def looks_again(command: SetCommand, changed: int) -> bool:
    """Return whether all states are looked through once more, after `changed` were changed.

    What goes back to an earlier state meanwhile (a pipeline that was busy) is met then.
    """
    return command is not SetCommand.RETRY and changed > 0
