"""A processing as decisions see it, and what they depend on besides."""

from dataclasses import dataclass
from typing import Final

from batuta.conductor.decisions.events import Interface
from batuta.messaging import ProcessingState as State
from batuta.work_classes import WorkClass

REPORTING_POLL_S: Final = 30.0
"""A pipeline that reports its activity is polled no sooner than this, in seconds."""
MAX_POLL_WAIT_S: Final = 60.0
AHEAD_S: Final = 5.0
"""Clocks of conductors agree to a second or so: what lies further ahead than anything is planned
for, or has happened so much later than now, in seconds, was written by one that was wrong."""
"""Longest time between two polls of one processing, in seconds."""
AFTER_DEADLINE_S: Final = 0.05
"""How long after its deadline a processing is polled, so that the poll finds it overdue."""

AT_PROVIDER: Final = frozenset({State.REQUESTED, State.QUEUED, State.RUNNING})
"""The states in which events about the current attempt count."""
TO_BE_MADE: Final = (State.UNAPPROVED, State.WAITING, State.HELD, State.RETRYING)
"""The states in which a processing is to be requested, in the order in which it enters them."""
GIVEN_UP: Final = frozenset({State.FAILED, State.CANCELLED})
"""The states in which a result comes late."""
REPORTED: Final = frozenset({State.RETRYING, State.FAILED, State.CANCELLED, State.SUCCEEDED})
"""The states that others are told of when a processing enters them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessingRecord:
    """What decisions depend on and change: the row of a processing, without its claim.

    Fields are named as the columns of the table; times are seconds since 1970.

    Attributes
    ----------
    attempt : int
        Attempts requested so far; the current one while the processing is at its provider.
    pipeline_attempt : int
        The current attempt as its pipeline counts; reports of earlier ones are outdated.
    not_before : float
        When it may be requested, while it waits.
    ask_at : float
        When its pipeline is polled next, while it is at its provider.
    started : float or None
        When its pipeline started the current attempt. Its timeout counts from here.
    profiled : bool
        Whether its pipeline keeps a profile of the last attempt that ended.
    remake : bool
        Whether its pipeline is to run it again although an earlier attempt has succeeded: the
        sdb does not hold its product.
    code : str or None
        The version of the code that the current attempt, or the last one, ran.
    pipeline_id : str or None
        Under which its pipeline knows the current attempt: the id that it is sent, then the id or
        the path that it answers. None: `id`.
    interface : Interface or None
        What its pipeline has shown in the current attempt. None: it has not answered.
    approved : bool
        Whether a person has approved that it is made, where its product asks for that.
    work_class : WorkClass
        Its class: what shares out the slots of its provider.
    told_class : WorkClass or None
        The class that an event or a command told, which what is made of its product inherits.
        None: `work_class` is that of the graph.
    told_priority : int or None
        The priority that a command or a campaign told. None: `priority` is that of the graph.
    graph_version : int or None
        The version of the graph by which it was claimed, or was last decided about; None if that
        was before versions were recorded.
    set_aside : int or None
        The version of the graph that does not make it from what there is, for which it was
        cancelled: one that does continues it.
    held_by : int or None
        The number of the hold that keeps it back, or was the last to; None if none ever did.
    instance : str or None
        The address that the current attempt, or the last one, was sent to, if its provider had
        several. None: the only one.
    campaign : int or None
        The campaign that it is made by.
    stage : int or None
        The rank of the lowest stage of its inputs, which its product has; None if none is told.
    withdrawn_input : str or None
        The input, and its version, that was withdrawn while it was made from that: it was stopped,
        and what it makes all the same is refused. None: none was.
    earlier_attempts : int
        How many of its attempts were requested before it took the inputs that it has now: what
        they import all the same is made from others.
    overdue_since : float or None
        When a conductor found that the current attempt has run for longer than its timeout. Others
        that share the database, whose clocks may be behind, are told so by this.
    """

    id: str
    product: str
    obs_id: str
    provider: str
    priority: int
    state: State
    attempt: int
    pipeline_attempt: int
    max_attempts: int
    timeout_s: float
    not_before: float
    ask_at: float
    done: int
    total: int
    error: str | None
    requested: float | None
    started: float | None
    ended: float | None
    profiled: bool
    remake: bool
    code: str | None = None
    pipeline_id: str | None = None
    interface: Interface | None = None
    approved: bool = False
    work_class: WorkClass = WorkClass.LIVE
    told_class: WorkClass | None = None
    graph_version: int | None = None
    set_aside: int | None = None
    held_by: int | None = None
    instance: str | None = None
    campaign: int | None = None
    stage: int | None = None
    withdrawn_input: str | None = None
    told_priority: int | None = None
    earlier_attempts: int = 0
    overdue_since: float | None = None


@dataclass(frozen=True, kw_only=True)
class WaitConfig:
    """How long to wait before a retry and before a poll: see `ConductorSettings`."""

    retry_wait_s: float = 1.0
    retry_wait_max_s: float = 300.0
    ask_after_s: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a decision depends on besides the record.

    Attributes
    ----------
    reports_activity : bool
        Whether the provider reports on ``activity.*``: then it is polled later.
    adopts : bool
        Whether what is archived is made although its processing was given up.
    circuit_open : bool
        Whether the address that the processing was sent to is left alone, because it fails.
    recognises : bool
        Whether a second request of the same attempt would be recognised, or is wanted all the same.
    asked_at : float or None
        When the provider is sent a request again, at any of its addresses, as far as that is known.
    """

    now: float
    waits: WaitConfig
    reports_activity: bool = False
    adopts: bool = True
    circuit_open: bool = False
    recognises: bool = False
    asked_at: float | None = None

    @property
    def first_poll_wait_s(self) -> float:
        """How long after a request the pipeline is first polled, in seconds."""
        return max(self.waits.ask_after_s, REPORTING_POLL_S if self.reports_activity else 0.0)


def retry_wait_s(attempt: int, first_s: float, max_s: float) -> float:
    """Return the wait after `attempt` (from 1) failed: doubled each time, up to `max_s`."""
    return min(max_s, first_s * 2.0 ** min(attempt - 1, 60))


def poll_wait_s(requested_since_s: float, first_s: float) -> float:
    """Return how long to wait before the next poll of a processing.

    It grows with the time since the request, so that a long processing costs few polls.
    """
    return min(MAX_POLL_WAIT_S, max(first_s, requested_since_s / 2))


def is_overdue(record: ProcessingRecord, now: float) -> bool:
    """Return whether the current attempt has run for longer than its timeout.

    Once one conductor has found so it stays so: its provider is being told to stop.
    """
    if record.overdue_since is not None:
        return True
    return record.started is not None and now >= record.started + record.timeout_s


def next_poll_at(record: ProcessingRecord, conditions: Conditions) -> float:
    """Return when the pipeline is to be polled next: right after the deadline at the latest."""
    now = conditions.now
    since_s = now - record.requested if record.requested is not None else 0.0
    poll_at = now + poll_wait_s(since_s, conditions.first_poll_wait_s)
    if record.started is None:
        return poll_at
    # Right after its deadline at the latest, so that one that never ends is stopped on time.
    deadline = record.started + record.timeout_s
    return min(poll_at, max(now, deadline) + AFTER_DEADLINE_S)
