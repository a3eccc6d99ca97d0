"""What providers are to be told to stop, until they have answered: functions without a database.

A processing is stopped in the record first. Its provider is told then, again and again while it
cannot be reached; what it makes all the same is refused.
"""

from dataclasses import dataclass, replace
from typing import Final

from batuta.conductor.decisions.processing_record import (
    AT_PROVIDER,
    ProcessingRecord,
    WaitConfig,
    retry_wait_s,
)

GIVEN_UP_AFTER_S: Final = 86_400.0
"""After so long, in seconds, a provider that cannot be reached is not told any more."""
UNANSWERED_S: Final = 60.0
"""A try of which nothing was heard for so long was interrupted by a kill, in seconds."""
ARRIVES_WITHIN_S: Final = 60.0
"""For how long a request may be on its way, in seconds: what is told to stop may overtake it, and a
provider that does not know the processing may be about to."""
_NOT_KNOWN: Final = "its provider does not know it, or not yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """An attempt at a processing that its provider is to stop.

    Fields are named as the columns of the table; times are seconds since 1970.

    Attributes
    ----------
    id : str
        Of the processing.
    instance, pipeline_id : str or None
        Where it is, and how it is known there: as of `ProcessingRecord`.
    since : float
        When it was stopped in the record.
    tries : int
        How often its provider was told, without an answer.
    next_at : float
        When it is told next.
    problem : str or None
        Why it could not be told, at the last try.
    """

    id: str
    product: str
    obs_id: str
    provider: str
    attempt: int
    instance: str | None
    pipeline_id: str | None
    since: float
    next_at: float
    tries: int = 0
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StopAnswer:
    """What came of telling a provider to stop a processing.

    Attributes
    ----------
    failure : str or None
        Why it could not be told.
    is_known : bool
        Whether it knows the processing, as far as it has answered.
    """

    failure: str | None = None
    is_known: bool = True


def stop_of(stopped: ProcessingRecord, now: float) -> Stop | None:
    """Return what the provider is told of a processing that is stopped, as it was before."""
    if stopped.state not in AT_PROVIDER:
        return None
    return Stop(
        id=stopped.id,
        product=stopped.product,
        obs_id=stopped.obs_id,
        provider=stopped.provider,
        attempt=stopped.attempt,
        instance=stopped.instance,
        pipeline_id=stopped.pipeline_id,
        since=now,
        next_at=now,
    )


def being_told(stop: Stop, now: float) -> Stop:
    """Return `stop` while its provider is told."""
    return replace(stop, next_at=now + UNANSWERED_S)


def after_answer(stop: Stop, answer: StopAnswer, now: float, waits: WaitConfig) -> Stop | None:
    """Return `stop` as its provider is to be told again; None if it is told no more."""
    if answer.failure is None and answer.is_known:
        return None
    told_for_s = ARRIVES_WITHIN_S if answer.failure is None else GIVEN_UP_AFTER_S
    if now >= stop.since + told_for_s:
        return None
    tries = stop.tries + 1
    wait_s = retry_wait_s(tries, waits.retry_wait_s, waits.retry_wait_max_s)
    problem = answer.failure or _NOT_KNOWN
    return replace(stop, tries=tries, next_at=now + wait_s, problem=problem)


def history_of(before: Stop, after: Stop | None, answer: StopAnswer) -> str | None:
    """Return what is told of a try in the history of the processing; None if nothing is.

    Of tries that follow each other without an answer, the first one and what came of them.
    """
    if not answer.is_known:
        return None
    if answer.failure is None:
        return "stopped at its provider" if before.tries else None
    if after is None:
        return "not stopped at its provider, given up"
    return None if before.tries else "not stopped at its provider yet, tried again"
