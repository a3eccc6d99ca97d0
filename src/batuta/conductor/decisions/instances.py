"""Which instance of a provider is sent which request: functions of values."""

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class InstanceLoad:
    """How much an instance has to do, and may be sent.

    Attributes
    ----------
    address : str
        Where it answers.
    room : int
        How many more processings may be there, as the graph limits them; without a limit, minus
        how many are there.
    free : int
        How many requests it may be sent now.
    trial : bool
        Whether what it is sent is a trial, to see whether it has recovered: one at a time.
    """

    address: str
    room: int
    free: int
    trial: bool = False


def places(number: int, loads: Sequence[InstanceLoad]) -> list[InstanceLoad]:
    """Return where each of `number` requests is sent, the first one being the most urgent.

    Each goes to the instance that has most room then. Trials are made with the last ones: what is
    urgent is sent to an instance that is known to answer, if there is one.

    Parameters
    ----------
    number : int
        At most as many as all are free for.
    """
    trials = [each for each in loads if each.trial and each.free > 0]
    others = [each for each in loads if not each.trial]
    tried = min(len(trials), number)
    found: list[InstanceLoad] = []
    for _ in range(number - tried):
        index = max(
            (index for index, each in enumerate(others) if each.free > 0),
            key=lambda index: (others[index].room, -index),
        )
        chosen = others[index]
        others[index] = replace(chosen, room=chosen.room - 1, free=chosen.free - 1)
        found.append(chosen)
    return found + trials[:tried]
