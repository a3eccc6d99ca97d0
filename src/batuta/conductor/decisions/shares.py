"""Which class of work is next: every class has its share, and none waits for ever.

Smooth weighted round robin (as in nginx's upstream balancer): at each turn every class with work
is credited its share, the class with the largest credit takes the turn, and pays for it what all
were credited. While the same classes wait, a class takes exactly its share of any ``sum of shares``
turns in a row, spread evenly. A class without work saves nothing up.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, TypeVar

from batuta.work_classes import WorkClass, urgency

Balance = Mapping[WorkClass, int]
"""What the classes that wait have been credited, and have not spent."""


class Waiting(Protocol):
    """What waits for a slot."""

    @property
    def work_class(self) -> WorkClass:
        """Its class."""


T = TypeVar("T", bound=Waiting)


def next_class(
    due: Collection[WorkClass], balance: Balance, shares: Mapping[WorkClass, int]
) -> tuple[WorkClass, dict[WorkClass, int]]:
    """Return which of the classes that are `due` takes the next turn, and the balance after it.

    Of equal balance, the more urgent class takes it.

    Raises
    ------
    ValueError
        If no class is due.
    """
    credited = {each: balance.get(each, 0) + shares[each] for each in due}
    chosen = min(due, key=lambda each: (-credited[each], urgency(each)))
    credited[chosen] -= sum(shares[each] for each in due)
    return chosen, credited


def share_out(
    waiting: Sequence[T],
    slots: int,
    limits: Mapping[WorkClass, int],
    balance: Balance,
    shares: Mapping[WorkClass, int],
) -> tuple[list[T], Balance]:
    """Share `slots` out among what waits for them.

    Parameters
    ----------
    waiting : sequence
        In the order in which each class takes its slots.
    slots : int
        How many there are.
    limits : mapping
        How many of them a class may take at most; a class that is not in it, all.
    balance : mapping
        As the last call for the same slots returned them.
    shares : mapping
        The weight of each class.

    Returns
    -------
    list
        What takes a slot, in the order of the turns.
    mapping
        The balance now.
    """
    queues: dict[WorkClass, list[T]] = {}
    for each in waiting:
        queues.setdefault(each.work_class, []).append(each)
    queues = {each: queue[: limits.get(each, slots)] for each, queue in queues.items()}
    if sum(map(len, queues.values())) <= slots:
        # Nobody waits for anyone.
        return [each for queue in queues.values() for each in queue], {}
    taken: dict[WorkClass, int] = dict.fromkeys(queues, 0)
    chosen: list[T] = []
    while len(chosen) < slots:
        due = [each for each, queue in queues.items() if taken[each] < len(queue)]
        turn, balance = next_class(due, balance, shares)
        chosen.append(queues[turn][taken[turn]])
        taken[turn] += 1
    return chosen, balance
