"""How many products were archived in each minute of the last hours, and how long they took."""

import itertools
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from pydantic import BaseModel

from batuta.clock import now_s
from batuta.conductor.database.schema import HAS_ENDED
from batuta.conductor.database.schema import processings as table
from batuta.conductor.database.views.report_counts import AWAITED_SINCE_OF_MADE
from batuta.conductor.decisions.reports import quantile, rounded
from batuta.messaging import ProcessingState as State
from batuta.messaging.processings import instant_of
from batuta.service.database import reading

MINUTE_S: Final = 60
ROWS_AT_ONCE: Final = 1000
MAX_MINUTES: Final = 12 * 60
OPEN_MINUTES: Final = 2
"""The last minutes, which are read again: more may be recorded of them."""


@dataclass(frozen=True, slots=True)
class _Minute:
    archived: int
    median_s: float | None
    p99_s: float | None


_NONE: Final = _Minute(0, None, None)


class Rates(BaseModel):
    """Minute by minute, the earliest first; the last one has not ended.

    `archived` counts the products that were archived; `median_s` and `p99_s` are how long it took
    from the first input of their observations, or what was made again from when what it is made
    from was there, of those made in the classes alert and live, and not ordered: null where there
    were none.
    """

    begin: datetime
    asked: datetime
    archived: list[int]
    median_s: list[float | None]
    p99_s: list[float | None]


class RateViews:
    """Reads rates; what was read of minutes that have ended is kept, for `MAX_MINUTES`.

    Parameters
    ----------
    engine : sa.Engine
        Open, with the latest schema.
    clock : callable
        Returns seconds since 1970.
    """

    def __init__(self, engine: sa.Engine, clock: Callable[[], float] = now_s) -> None:
        self._engine = engine
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[int, _Minute] = {}
        self._known_to = 0
        """The first minute that is not kept."""

    def rates(self, minutes: int) -> Rates:
        """Return the rates of the last `minutes`, at most `MAX_MINUTES`."""
        now = self._clock()
        last = int(now // MINUTE_S)
        # One reads what others wait for: otherwise all would, after a start.
        with self._lock:
            found = self._read(last)
        first = last - minutes + 1
        shown = [found.get(minute, _NONE) for minute in range(first, last + 1)]
        return Rates(
            begin=instant_of(first * MINUTE_S),
            asked=instant_of(now),
            archived=[each.archived for each in shown],
            median_s=[each.median_s for each in shown],
            p99_s=[each.p99_s for each in shown],
        )

    def _read(self, last: int) -> dict[int, _Minute]:
        first = max(self._known_to, last - MAX_MINUTES + 1)
        if first > last:  # the clock was set back
            first = last - MAX_MINUTES + 1
        kept = {each: it for each, it in self._known.items() if last - MAX_MINUTES < each < first}
        found = kept | self._read_from(first)
        self._known_to = max(first, last - OPEN_MINUTES + 1)
        self._known = {each: it for each, it in found.items() if each < self._known_to}
        return found

    def _read_from(self, first: int) -> dict[int, _Minute]:
        archived: Counter[int] = Counter()
        durations: defaultdict[int, Counter[float]] = defaultdict(Counter)
        with reading(self._engine) as connection:
            made = connection.execute(_MADE, {"since": first * MINUTE_S})
            for ended, since in itertools.chain.from_iterable(made.partitions(ROWS_AT_ONCE)):
                minute = int(ended // MINUTE_S)
                archived[minute] += 1
                if since is not None:
                    durations[minute][rounded(ended - since)] += 1
        return {
            minute: _Minute(
                archived=number,
                median_s=quantile(durations[minute], 0.5) if minute in durations else None,
                p99_s=quantile(durations[minute], 0.99) if minute in durations else None,
            )
            for minute, number in archived.items()
        }


_MADE: Final = sa.select(table.c.ended, AWAITED_SINCE_OF_MADE).where(
    sa.text(HAS_ENDED),
    table.c.ended >= sa.bindparam("since", type_=sa.Float),
    table.c.state == State.SUCCEEDED,
)
