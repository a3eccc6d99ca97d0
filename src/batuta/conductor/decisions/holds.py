"""What operators hold back, and how it is let go: functions without database, network or clock."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Protocol

from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.messaging import ProcessingState as State
from batuta.messaging.processings import instant_of
from batuta.work_classes import WorkClass

MAX_CATCH_UP_S: Final = 1.0
"""What a conductor that was down, or busy, did not let go is made up for this long, in seconds."""

RATE_RULE: Final = "a whole number and a unit, as 10/min (units: s, min, h, d)"
_RATE: Final = re.compile(r"([1-9][0-9]{0,5})/(s|min|h|d)")
_UNITS_S: Final = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


class Work(Protocol):
    """What may be held: a processing, or several that are alike."""

    @property
    def provider(self) -> str:
        """The pipeline that makes it."""

    @property
    def product(self) -> str:
        """What it makes."""

    @property
    def obs_id(self) -> str | None:
        """The observation; None of work of several, of which no hold names any."""

    @property
    def work_class(self) -> WorkClass:
        """Its class."""

    @property
    def campaign(self) -> int | None:
        """The campaign that makes it, if one does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which work a hold covers: what has all the values that are given; with none, all work.

    Each attribute is named as that of a processing, and as the column of its table.
    """

    provider: str | None = None
    product: str | None = None
    obs_id: str | None = None
    work_class: WorkClass | None = None
    campaign: int | None = None

    @property
    def given(self) -> Mapping[str, str | int]:
        """The values that are given, by name."""
        values = {name: getattr(self, name) for name in SCOPE_NAMES}
        return {name: value for name, value in values.items() if value is not None}

    def covers(self, work: Work) -> bool:
        """Return whether it covers `work`."""
        return all(getattr(work, name) == value for name, value in self.given.items())

    def words(self) -> str:
        """Say it for people: ``provider maker, class backfill``."""
        parts = [f"{SCOPE_NAMES[name]} {value}" for name, value in self.given.items()]
        return ", ".join(parts) or "all"


SCOPE_NAMES: Final[Mapping[str, str]] = {
    "provider": "provider",
    "product": "product",
    "obs_id": "observation",
    "work_class": "class",
    "campaign": "campaign",
}
"""What a hold may be of, and what it is called for people."""


class HoldState(StrEnum):
    """How a hold is."""

    SCHEDULED = "scheduled"
    """It has not begun."""
    IN_FORCE = "in force"
    RELEASING = "releasing"
    """Released; the work that it kept back is let go."""
    RELEASED = "released"
    """It keeps nothing back any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What an operator holds back; times are seconds since 1970.

    Attributes
    ----------
    begins : float
        From when on.
    placed, by, reason : float, str, str or None
        When, by whom and why it was placed.
    applied : bool
        Whether all the work that waited when it began is marked as held.
    released, released_by, release_reason : float or None, str or None, str or None
        When, by whom and why it was released.
    rate : str or None
        How fast the work is let go then: see `rate_per_s`. None: as fast as it is requested.
    next_at : float or None
        When the next may be let go, at that rate.
    ended : float or None
        When it kept nothing back any more.
    pause : bool
        Whether it is the pause of its campaign: it ends as that is resumed, and not otherwise.
    """

    number: int
    scope: Scope
    begins: float
    placed: float
    by: str
    reason: str | None = None
    applied: bool = False
    released: float | None = None
    released_by: str | None = None
    release_reason: str | None = None
    rate: str | None = None
    next_at: float | None = None
    ended: float | None = None
    pause: bool = False

    def state(self, now: float) -> HoldState:
        """Return how it is at the time `now`."""
        if self.ended is not None:
            return HoldState.RELEASED
        if self.released is not None:
            return HoldState.RELEASING
        return HoldState.IN_FORCE if self.begins <= now else HoldState.SCHEDULED

    def catches(self, now: float) -> bool:
        """Return whether it keeps back what is to be requested at the time `now`.

        One that is released at a rate before all that waited was marked does so until it is:
        what is not marked would be let go at once.
        """
        if self.ended is not None or self.begins > now:
            return False
        return self.released is None or (self.rate is not None and not self.applied)

    @property
    def name(self) -> str:
        """Which hold it is, for people."""
        return f"hold {self.number} of {self.what}"

    @property
    def what(self) -> str:
        """What is held, for people."""
        return f"{self.scope.words()} (paused)" if self.pause else self.scope.words()

    @property
    def remedy(self) -> str:
        """The command that ends it."""
        if self.pause:
            return f"batuta campaign resume {self.scope.campaign}"
        return f"batuta release --hold {self.number}"

    def words(self) -> str:
        """Say which hold it is, since when, by whom and why, in one line."""
        why = f": {self.reason}" if self.reason else ""
        since = f"{instant_of(self.begins):%Y-%m-%d %H:%M:%S}"
        return f"{self.name} since {since} ({self.by}){why}"


def rate_per_s(rate: str) -> float:
    """Return how many a rate such as ``10/min`` lets go in a second.

    Raises
    ------
    ValueError
        If it is none: says what is accepted.
    """
    found = _RATE.fullmatch(rate)
    if found is None:
        raise ValueError(f"{RATE_RULE} expected")
    return int(found[1]) / _UNITS_S[found[2]]


def holding(holds: Iterable[Hold], work: Work, now: float) -> Hold | None:
    """Return the earliest of the holds in force that cover `work`; None if none does."""
    covering = [
        each for each in holds if each.state(now) is HoldState.IN_FORCE and each.scope.covers(work)
    ]
    return min(covering, key=lambda each: (each.begins, each.number), default=None)


def hold(record: ProcessingRecord, by: Hold) -> ProcessingRecord:
    """Return `record`, which was to be requested, kept back by a hold."""
    return replace(record, state=State.HELD, held_by=by.number)


def keep_back(record: ProcessingRecord, holds: Sequence[Hold], now: float) -> ProcessingRecord:
    """Return `record`, which was changed by a command, kept back by the hold that covers it now.

    Parameters
    ----------
    holds : sequence of Hold
        Those that have not ended. What one of them keeps back, and does not cover any more because
        its class is another, is let go.
    """
    if record.state is State.HELD:
        own = next((each for each in holds if each.number == record.held_by), None)
        if own is not None and own.scope.covers(record):
            return record
        record = replace(record, state=State.WAITING)
    if record.state not in (State.WAITING, State.RETRYING):
        return record
    other = holding(holds, record, now)
    return record if other is None else hold(record, other)


def standing(open_: Iterable[Hold], wanted: Hold) -> Hold | None:
    """Return the hold that stands already for what is `wanted`; None if there is none.

    A command that is repeated, because its answer was lost, places no second hold. That of
    another person, or for another reason, does: each is released by itself.
    """

    def same(each: Hold) -> bool:
        both_begun = max(each.begins, wanted.begins) <= wanted.placed
        return (
            each.released is None
            and not each.pause
            and (each.scope, each.by, each.reason) == (wanted.scope, wanted.by, wanted.reason)
            and (each.begins == wanted.begins or both_begun)
        )

    return next(filter(same, open_), None)


def pause_of(campaign: int, by: str, reason: str | None, now: float) -> Hold:
    """Return the hold, not numbered yet, that keeps back what a paused campaign has waiting."""
    return Hold(
        number=0,
        scope=Scope(campaign=campaign),
        begins=now,
        placed=now,
        by=by,
        reason=reason,
        pause=True,
    )


def release(
    held: Hold, now: float, by: str, rate: str | None = None, reason: str | None = None
) -> Hold:
    """Return `held` released: its work is let go from `now` on, at `rate`.

    One that is released already goes on at the new rate; one that has not begun has ended.
    """
    if held.state(now) is HoldState.SCHEDULED:
        return replace(held, released=now, released_by=by, release_reason=reason, ended=now)
    return replace(
        held, released=now, released_by=by, release_reason=reason, rate=rate, next_at=now
    )


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of the first that a released hold keeps back.

    Attributes
    ----------
    changes : list of pairs of ProcessingRecord
        Each as it was, and as it is now: let go, or kept back by another hold.
    next_at : float
        When the next may be let go.
    """

    changes: list[tuple[ProcessingRecord, ProcessingRecord]]
    next_at: float


def let_go(
    released: Hold, first: Sequence[ProcessingRecord], holds: Sequence[Hold], now: float
) -> Step:
    """Decide what is let go now of what a released hold keeps back.

    Parameters
    ----------
    released : Hold
        The hold.
    first : sequence of ProcessingRecord
        The first that it keeps back, the most urgent at the front.
    holds : sequence of Hold
        All: what another one covers is kept back by that from now on, at no cost to the rate.
    now : float
        What time it is, in seconds since 1970.
    """
    allowed, start, interval_s = _allowance(released, now)
    changes: list[tuple[ProcessingRecord, ProcessingRecord]] = []
    gone = 0
    for record in first:
        other = holding(holds, record, now)
        if other is not None:
            changes.append((record, hold(record, other)))
        elif allowed is None or gone < allowed:
            gone += 1
            changes.append((record, replace(record, state=State.WAITING)))
        else:
            break
    return Step(changes, start + gone * interval_s)


def _allowance(released: Hold, now: float) -> tuple[int | None, float, float]:
    """Return how many may be let go now (None: all), when the first might, and the interval."""
    if released.rate is None:
        return None, now, 0.0
    interval_s = 1 / rate_per_s(released.rate)
    # A clock that was set back must not stop it; a conductor that was down not make it a burst.
    planned = min(released.next_at or now, now + interval_s)
    start = max(planned, now - MAX_CATCH_UP_S)
    return (0 if start > now else 1 + int((now - start) / interval_s)), start, interval_s


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldGroup:
    """How much is held that has these values; `obs_id` is None if no hold names it.

    What is not `approved` waits for a person besides: it would be held once it is approved.
    """

    provider: str
    product: str
    obs_id: str | None
    work_class: WorkClass
    campaign: int | None
    number: int
    approved: bool = True


def kept_back(held: Hold, groups: Iterable[HeldGroup], now: float) -> list[HeldGroup]:
    """Return what a hold keeps back, whatever else does.

    What a person has not approved yet is kept back as long as the hold is in force: none of it is
    let go by a release.
    """
    begun = held.state(now) in {HoldState.IN_FORCE, HoldState.RELEASING}
    in_force = held.state(now) is HoldState.IN_FORCE
    return [
        each
        for each in groups
        if (begun if each.approved else in_force) and held.scope.covers(each)
    ]


def would_start(
    held: Hold, groups: Iterable[HeldGroup], holds: Sequence[Hold], now: float
) -> list[HeldGroup]:
    """Return what a release would let go: what nothing else keeps back, no other hold in force."""
    others = [
        each.scope
        for each in holds
        if each.number != held.number and each.state(now) is HoldState.IN_FORCE
    ]
    return [
        each
        for each in kept_back(held, groups, now)
        if each.approved and not any(other.covers(each) for other in others)
    ]
