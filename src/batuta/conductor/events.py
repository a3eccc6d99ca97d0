"""What can be found out about a processing at its pipeline, as values.

The dispatcher and the consumer of ``activity.*`` make events, `batuta.conductor.transitions`
decides what they change.
"""

from dataclasses import dataclass

from batuta.messaging import ProcessingState as State


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived(Event):
    """The sdb holds a product that the processing has imported, as a service of `provider`.

    It is the one that the processing was to make only if its names are: whoever imports something
    else may say that it comes of the same processing.
    """

    product: str
    obs_id: str
    provider: str | None


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
    """The pipeline did not answer, or its answer could not be understood.

    `overdue` says that it was asked to stop the processing, whose deadline had passed.
    """

    error: str
    overdue: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownToPipeline(Event):
    """The pipeline was asked about a processing that it does not know.

    `polled_state` is the processing's state when the pipeline was asked, which may have changed
    since: only then does the answer tell a request that never arrived from a processing lost.
    """

    polled_state: State
