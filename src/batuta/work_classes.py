"""The classes of work: what is urgent, and how large a share of a provider each class has."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class WorkClass(StrEnum):
    """Why a product is made, the most urgent first."""

    ALERT = "alert"
    LIVE = "live"
    REPROCESS = "reprocess"
    BACKFILL = "backfill"


CLASSES: Final = frozenset(map(str, WorkClass))
CLASS_RULE: Final = ", ".join(WorkClass)

DEFAULT_SHARES: Final[Mapping[WorkClass, int]] = MappingProxyType(
    {
        WorkClass.ALERT: 64,
        WorkClass.LIVE: 16,
        WorkClass.REPROCESS: 4,
        WorkClass.BACKFILL: 1,
    }
)
"""Of the slots of a provider that become free while all classes wait for one."""

_RANKS: Final = {each: rank for rank, each in enumerate(WorkClass)}


def urgency(work_class: WorkClass) -> int:
    """Return the rank of a class: 0 for the most urgent one."""
    return _RANKS[work_class]


def most_urgent(classes: Iterable[WorkClass | None]) -> WorkClass | None:
    """Return the most urgent of the classes that are given; None if none is."""
    return min((each for each in classes if each is not None), key=urgency, default=None)
