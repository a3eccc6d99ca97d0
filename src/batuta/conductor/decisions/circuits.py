"""When a provider that keeps failing is left alone, and when it is tried again.

A circuit is kept for each instance of a provider, which is one address at which it answers. It
opens once so many requests and polls in a row were not answered, or once processings of so many
observations in a row have failed. While it is open, nothing is sent; at growing intervals one
request, or one poll, is sent as a trial, whose outcome closes it or keeps it open.

Functions of values: no database, no network and no clock.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar, Final

from batuta.conductor.decisions.events import (
    Archived,
    DeadlinePassed,
    Event,
    InstanceLost,
    PipelineUnreachable,
    StatusUpdate,
    UnknownToPipeline,
)
from batuta.conductor.decisions.processing_record import ProcessingRecord, retry_wait_s
from batuta.messaging import ProcessingState as State

DEFAULT_FULL_WAIT_S: Final = 5.0
"""Wait before the next request to an instance that is full and does not say when to come back."""
MIN_FULL_WAIT_S: Final = 0.5
MAX_FULL_WAIT_S: Final = 300.0
"""Between these is what an instance may ask to wait: not so little that it is asked all the time,
not so long that one wrong number stops it for a day."""
LOST_AFTER_S: Final = 60.0
"""An instance that has not answered for so long is taken for lost, in seconds, unless the graph
says otherwise (key ``lost_after``)."""


class CircuitState(StrEnum):
    """Whether an instance is asked anything."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"
    """One request or poll is under way, as a trial."""


class OpenedBy(StrEnum):
    """What opened a circuit; only its opposite closes it."""

    UNANSWERED = "unanswered"
    """Requests and polls were not answered, or by 5xx."""
    FAILING = "failing"
    """Processings failed."""


@dataclass(frozen=True, kw_only=True)
class CircuitLimits:
    """When circuits open, and when they are tried again: see `ConductorSettings`.

    Attributes
    ----------
    unanswered : int
        So many requests or polls in a row that were not answered open a circuit.
    failed : int
        So many observations in a row of which processings failed open it.
    first_wait_s, max_wait_s : float
        The wait before the first trial, in seconds; doubled for each one after it, up to the
        second.
    """

    unanswered: int = 5
    failed: int = 10
    first_wait_s: float = 1.0
    max_wait_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """What is known of the health of an instance; times are seconds since 1970.

    Attributes
    ----------
    since : float or None
        When it was opened; None while it is closed.
    retry_at : float or None
        From when a trial may be sent, while it is open.
    trials : int
        How many trials have failed since it was opened.
    reason : str or None
        What went wrong last.
    trial : str or None
        The processing that the trial is about, while it is half-open.
    unanswered : tuple of str
        The observations of the requests and polls that were not answered, in a row, each once;
        empty text for those that could not even connect, which are all counted.
    unanswered_since : float or None
        When the first of them was sent, about.
    failed : tuple of str
        The observations of which processings have failed, in a row, each once.
    full_until, quiet_until : float or None
        Until when it has asked to be sent no request, and no poll either.
    lost : float or None
        When it was taken for lost.
    """

    provider: str
    instance: str
    state: CircuitState = CircuitState.CLOSED
    opened_by: OpenedBy | None = None
    since: float | None = None
    retry_at: float | None = None
    trials: int = 0
    reason: str | None = None
    trial: str | None = None
    unanswered: tuple[str, ...] = ()
    unanswered_since: float | None = None
    failed: tuple[str, ...] = ()
    full_until: float | None = None
    quiet_until: float | None = None
    lost: float | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Whose it is: provider and instance."""
        return self.provider, self.instance

    @property
    def open(self) -> bool:
        """Whether its instance is left alone, but for a trial."""
        return self.state is not CircuitState.CLOSED

    @property
    def remarkable(self) -> bool:
        """Whether it says anything that one that was never heard of would not."""
        return self != Circuit(provider=self.provider, instance=self.instance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """Something that tells how an instance is.

    `processing_id` is what the request or the poll was about.
    """

    good: ClassVar[bool] = False
    """Whether it says nothing of an instance that was well before."""

    provider: str
    instance: str
    processing_id: str

    @property
    def key(self) -> tuple[str, str]:
        """Whose it is: provider and instance."""
        return self.provider, self.instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(Signal):
    """It has answered, whatever it was: even a refusal."""

    good: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Full(Signal):
    """It has answered that it takes no more for `wait_s` seconds (429, 503).

    `polls` tells whether that was the answer to a poll: then none is sent either.
    """

    wait_s: float
    polls: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered(Signal):
    """It has not answered, or by an error of its own (5xx).

    Attributes
    ----------
    obs_id : str or None
        The observation that may be the cause; None where no connection could be made.
    """

    reason: str
    obs_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed(Signal):
    """A processing that it accepted, or refused, has failed."""

    obs_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSucceeded(Signal):
    """A processing that it was asked for has succeeded."""

    good: ClassVar[bool] = True


def after_signal(circuit: Circuit, signal: Signal, limits: CircuitLimits, now: float) -> Circuit:
    """Return `circuit` after `signal`."""
    match signal:
        case Answered():
            return _after_answer(circuit, now)
        case Full():
            return _after_full(circuit, signal, now)
        case Unanswered():
            return _after_no_answer(circuit, signal, limits, now)
        case AttemptFailed():
            return _after_failed_attempt(circuit, signal, limits, now)
        case AttemptSucceeded():
            after = replace(circuit, failed=())
            return _closed(after) if circuit.opened_by is OpenedBy.FAILING else after
        case _:
            raise TypeError(f"unknown signal {signal!r}")


def _after_answer(circuit: Circuit, now: float) -> Circuit:
    # Failures of processings stay counted: one that fails them all answers well.
    after = replace(
        circuit,
        unanswered=(),
        unanswered_since=None,
        lost=None,
        full_until=_unless_past(circuit.full_until, now),
        quiet_until=_unless_past(circuit.quiet_until, now),
    )
    return _closed(after) if after.opened_by is OpenedBy.UNANSWERED else after


def _after_full(circuit: Circuit, signal: Full, now: float) -> Circuit:
    until = now + signal.wait_s
    after = replace(_after_answer(circuit, now), full_until=until)
    if signal.polls:
        after = replace(after, quiet_until=until)
    if after.state is CircuitState.HALF_OPEN and after.trial == signal.processing_id:
        return trial_without_outcome(after, until)
    return after


def _after_no_answer(
    circuit: Circuit, signal: Unanswered, limits: CircuitLimits, now: float
) -> Circuit:
    # An observation may be what brings a pipeline down: it counts once, however often it is tried.
    seen = circuit.unanswered
    if signal.obs_id is None or signal.obs_id not in seen:
        seen = (*seen, signal.obs_id or "")[-limits.unanswered :]
    since = circuit.unanswered_since if circuit.unanswered_since is not None else now
    after = replace(circuit, unanswered=seen, unanswered_since=since)
    if after.opened_by is not OpenedBy.UNANSWERED and len(seen) >= limits.unanswered:
        return _opened(after, OpenedBy.UNANSWERED, signal.reason, limits, now)
    if after.state is CircuitState.HALF_OPEN and after.trial == signal.processing_id:
        return _reopened(after, signal.reason, limits, now)
    return after


def _after_failed_attempt(
    circuit: Circuit, signal: AttemptFailed, limits: CircuitLimits, now: float
) -> Circuit:
    failed = circuit.failed
    if signal.obs_id not in failed:
        failed = (*failed, signal.obs_id)[-limits.failed :]
    after = replace(circuit, failed=failed)
    if after.state is CircuitState.CLOSED and len(failed) >= limits.failed:
        return _opened(after, OpenedBy.FAILING, signal.reason, limits, now)
    if after.state is CircuitState.HALF_OPEN and after.trial == signal.processing_id:
        return _reopened(after, signal.reason, limits, now)
    return after


def _opened(
    circuit: Circuit, by: OpenedBy, reason: str, limits: CircuitLimits, now: float
) -> Circuit:
    return replace(
        circuit,
        state=CircuitState.OPEN,
        opened_by=by,
        since=circuit.since if circuit.since is not None else now,
        retry_at=now + limits.first_wait_s,
        trials=0,
        reason=reason,
        trial=None,
    )


def _reopened(circuit: Circuit, reason: str, limits: CircuitLimits, now: float) -> Circuit:
    trials = circuit.trials + 1
    wait_s = retry_wait_s(trials + 1, limits.first_wait_s, limits.max_wait_s)
    return replace(
        circuit,
        state=CircuitState.OPEN,
        trials=trials,
        retry_at=now + wait_s,
        reason=reason,
        trial=None,
        # What was sent to it meanwhile is given up with it, too.
        lost=None,
    )


def may_tell_failure(event: Event) -> bool:
    """Return whether an event may have an outcome that speaks against an instance."""
    match event:
        case DeadlinePassed():
            return True  # also what was to be stopped, and runs on
        case Archived() | StatusUpdate(state=State.QUEUED | State.RUNNING):
            return False
        case _:
            return True


def outcome_of(
    key: tuple[str, str], event: Event, before: ProcessingRecord, after: ProcessingRecord
) -> AttemptFailed | AttemptSucceeded | None:
    """Return what the end of an attempt tells of the instance that it was at.

    Parameters
    ----------
    key : tuple of str
        Provider and instance.
    event : Event
        What changed the processing. One that tells that the instance was not there tells nothing
        of the processing.
    before, after : ProcessingRecord
        The processing as it was, and as it is then.
    """
    provider, instance = key
    if after.state is before.state:
        return None
    if after.state is State.SUCCEEDED:
        return AttemptSucceeded(provider=provider, instance=instance, processing_id=after.id)
    absent = isinstance(event, PipelineUnreachable | UnknownToPipeline | InstanceLost)
    if absent or after.state not in (State.RETRYING, State.FAILED):
        return None
    return AttemptFailed(
        provider=provider,
        instance=instance,
        processing_id=after.id,
        obs_id=after.obs_id,
        reason=f"{after.product} of {after.obs_id}: {after.error}",
    )


def _closed(circuit: Circuit) -> Circuit:
    return replace(
        circuit,
        state=CircuitState.CLOSED,
        opened_by=None,
        since=None,
        retry_at=None,
        trials=0,
        reason=None,
        trial=None,
    )


def close_by_hand(circuit: Circuit) -> Circuit:
    """Return a circuit that an operator has closed: what was counted is forgotten."""
    return Circuit(provider=circuit.provider, instance=circuit.instance)


def trial_without_outcome(circuit: Circuit, retry_at: float) -> Circuit:
    """Return a half-open circuit whose trial has ended without telling how its instance is.

    It was cancelled, or the instance was full.
    """
    return replace(circuit, state=CircuitState.OPEN, trial=None, retry_at=retry_at)


def on_trial(circuit: Circuit, processing_id: str) -> Circuit:
    """Return an open circuit once its trial is to be sent.

    One that another conductor has closed meanwhile stays so, and what is sent is no trial; one that
    it is trying already keeps its trial.
    """
    if circuit.state is not CircuitState.OPEN:
        return circuit
    return replace(circuit, state=CircuitState.HALF_OPEN, trial=processing_id)


def lost_at(circuit: Circuit, lost_after_s: float) -> float | None:
    """Return when the instance is to be taken for lost if it does not answer before; None: never.

    That takes both: enough requests and polls that were not answered to open its circuit, and
    that none was answered for `lost_after_s` seconds.
    """
    # While a trial is under way, it may turn out to be there.
    unanswered = circuit.opened_by is OpenedBy.UNANSWERED and circuit.state is CircuitState.OPEN
    if not unanswered or circuit.lost is not None or circuit.unanswered_since is None:
        return None
    return circuit.unanswered_since + lost_after_s


def may_be_asked_at(circuit: Circuit | None, now: float) -> float | None:
    """Return when the instance may be sent a request; None while a trial is under way."""
    if circuit is None:
        return now
    if circuit.state is CircuitState.HALF_OPEN:
        return None
    return max(now, circuit.retry_at or now, circuit.full_until or now)


def may_be_polled_at(circuit: Circuit, now: float) -> float | None:
    """Return when the instance may be polled, its trial apart; None while it does not answer."""
    if circuit.opened_by is OpenedBy.UNANSWERED:
        return None
    return max(now, circuit.quiet_until or now)


def wait_asked_s(retry_after_s: float | None) -> float:
    """Return how long to wait for an instance that is full, by what its ``Retry-After`` says."""
    if retry_after_s is None:
        return DEFAULT_FULL_WAIT_S
    return min(max(retry_after_s, MIN_FULL_WAIT_S), MAX_FULL_WAIT_S)


def _unless_past(instant: float | None, now: float) -> float | None:
    return instant if instant is not None and instant > now else None
