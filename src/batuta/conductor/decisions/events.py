"""What can be found out about a processing at its pipeline, as values.

The dispatcher and the consumer of ``activity.*`` make events,
`batuta.conductor.decisions.transitions` decides what they change.
"""

from dataclasses import dataclass
from enum import StrEnum

from batuta.messaging import ProcessingState as State


class Interface(StrEnum):
    """How much of the interface a pipeline has shown in an attempt; each includes those before.

    What it has not shown, it is not asked to do: a pipeline may know only how to be requested.
    """

    REQUEST = "request"
    """It has answered the request."""
    QUERY = "query"
    """It has told the state of the processing when it was asked."""
    ATTEMPTS = "attempts"
    """It keeps the id that it is sent, and counts attempts: it can be asked twice, and starts one
    processing."""

    @classmethod
    def widest(cls, *shown: "Interface | None") -> "Interface | None":
        """Return the one that includes all that was `shown`; None if nothing was."""
        return max((each for each in shown if each), key=list(cls).index, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that was found out about a processing.

    Attributes
    ----------
    asked_attempt : int or None
        For an answer of the pipeline, or the lack of one: the attempt that was current when
        it was asked. An answer that arrives after the next attempt was requested says nothing
        of that one. None for what the pipeline reports by itself.
    """

    processing_id: str
    asked_attempt: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusUpdate(Event):
    """A pipeline says how a processing is: on ``activity.*``, or when it is asked.

    Attributes
    ----------
    state : ProcessingState
        One of the states that a pipeline may report; `FAILED` means that this attempt failed.
    attempt : int
        The attempt that it is about, as the pipeline counts.
    profiled : bool
        Where the attempt has ended: whether the pipeline keeps a profile of it.
    reported_by : str or None
        For what was published on ``activity.*``: the service that says so. None for an answer,
        which is that of the provider.
    archived : bool or None
        For `SUCCEEDED`: whether the sdb holds the product. None if the sdb was not asked, or
        did not answer.
    code : str or None
        The version of the code that the attempt runs, where its pipeline knows it.
    pipeline_id : str or None
        The pipeline's own id, or the path, under which to ask about this attempt from now on.
    interface : Interface or None
        What the pipeline has shown by this.
    """

    state: State
    attempt: int
    done: int = 0
    total: int = 0
    error: str | None = None
    started: float | None = None
    profiled: bool = False
    reported_by: str | None = None
    archived: bool | None = None
    code: str | None = None
    pipeline_id: str | None = None
    interface: Interface | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoStateTold(Event):
    """A pipeline tells nothing of the state: in its answer, or since the answer was lost.

    The processing may be under way there: it is followed by what is imported, and by its timeout.

    Attributes
    ----------
    error : str or None
        Why nothing is known, if that is an error.
    pipeline_id, interface
        As in a `StatusUpdate`.
    overdue : bool
        Whether it was asked to stop the processing, whose deadline had passed.
    """

    error: str | None = None
    pipeline_id: str | None = None
    interface: Interface | None = None
    overdue: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived(Event):
    """The sdb holds a product that the processing has imported, as a service of `provider`.

    It is the one that the processing was to make only if its names are: whoever imports something
    else may say that it comes of the same processing. `processing_id` is empty where the import
    names none. `made_in` is the attempt that imported it; None where the import does not say.
    """

    product: str
    obs_id: str
    provider: str | None
    version: int = 0
    made_in: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlinePassed(StatusUpdate):
    """A pipeline answers the request to stop a processing that outlived its timeout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy(Event):
    """The pipeline has no room for the request; try again in `wait_s` seconds."""

    error: str
    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Event):
    """The pipeline refused the request, and would refuse any further one."""

    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineUnreachable(Event):
    """The pipeline cannot be reached, or answers an error of its own (5xx).

    Attributes
    ----------
    polled : bool
        Whether it was asked about a processing, which may be under way all the same.
    overdue : bool
        Whether it was asked to stop the processing, whose deadline had passed.
    connected : bool
        Whether there was a connection.
    """

    error: str
    polled: bool = False
    overdue: bool = False
    connected: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PollPostponed(Event):
    """The pipeline asks not to be polled for `wait_s` seconds; it tells nothing of the state."""

    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceLost(Event):
    """The address that the processing is at has not answered for so long that it is given up.

    Attributes
    ----------
    recognised : bool
        Whether a second request would be recognised, or is wanted all the same: if the processing
        is under way there after all, any other pipeline would make its product twice.
    """

    error: str
    recognised: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownToPipeline(Event):
    """The pipeline was asked about a processing that it does not know.

    Attributes
    ----------
    polled_state : ProcessingState
        The processing's state when the pipeline was asked, which may have changed since: only
        then does the answer tell a request that never arrived from a processing lost.
    counts_attempts : bool
        Whether it says so as one that keeps the ids it is sent. Any other may have no such route.
    overdue : bool
        Whether it was asked to stop the processing, whose deadline had passed.
    """

    polled_state: State
    counts_attempts: bool = False
    overdue: bool = False
