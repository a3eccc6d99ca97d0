"""What a product graph is made of, once checked: products and the providers that make them."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from batuta.work_classes import WorkClass


class OnUpdate(StrEnum):
    """What to do with a product already made when a newer version of an input arrives."""

    REPROCESS = "reprocess"
    IGNORE = "ignore"


class OnLate(StrEnum):
    """What to do when an optional input arrives after a product was asked for without it."""

    IMPROVE = "improve"
    IGNORE = "ignore"


class MadeAt(StrEnum):
    """At which stages of its inputs a product is made; its own is the lowest of theirs."""

    EACH = "each"
    """From what there is, and again at each higher stage."""
    FINAL = "final"
    """From final inputs alone: what is below is waited for."""
    FIRST_AND_FINAL = "first_and_final"
    """From what there is first, and once more from the final; at none between."""
    FIRST = "first"
    """From what there is first, and at no higher stage."""


class WaitFrom(StrEnum):
    """From when the wait for optional inputs is counted, in the clock of the conductor."""

    COMPLETE = "complete"
    """The mandatory inputs, and as many optional ones as are needed, are available."""
    FIRST_INPUT = "first_input"
    """The first input of the graph became available for the observation."""
    LAST_INPUT = "last_input"
    """The last one did: each that arrives begins the wait anew."""


class DueFrom(StrEnum):
    """From when `due_s` and `expires_s` are counted."""

    FIRST_INPUT = "first_input"
    """The first of the inputs that lead to it was received, by the clock of the conductor."""
    EVENT_TIME = "event_time"
    """The earliest time that the events of these inputs give themselves."""

    @property
    def words(self) -> str:
        """How it reads in a sentence."""
        return "its first input" if self is DueFrom.FIRST_INPUT else "the time of its event"


class Approval(StrEnum):
    """What waits until a person approves it."""

    BEFORE = "before"
    """A product: it is not requested."""
    AFTER = "after"
    """What is made from a version of a product: that version is not available."""


class LateResult(StrEnum):
    """What to do with a product of a processing that was given up: that failed or was cancelled."""

    ADOPT = "adopt"
    """It is made: the processing has succeeded."""
    ASK = "ask"
    """A person adopts or refuses it; until then it is not available."""
    REFUSE = "refuse"
    """It is not available, unless a person adopts it."""


@dataclass(frozen=True, slots=True)
class Provider:
    """The pipeline service that makes some of the graph's products.

    Attributes
    ----------
    name : str
        Also the token of its NATS subject, ``activity.<name>``.
    urls : tuple of str
        Where it answers, without a trailing slash: requests go to ``<url>/processing``. Each is
        an instance of it: any of them may make any of its products.
    max_concurrent : int or None
        Processings that it may be asked for at the same time, over all observations and
        instances; None: as many as there are to ask.
    max_concurrent_by_class : mapping
        How many of them may be of a class; a class that is not in it: all.
    callback : bool
        Whether it calls back: requests carry a ``subscriber``, and it is polled later.
    max_concurrent_per_instance : int or None
        Processings that each instance may be asked for at the same time; None: as many as there
        are.
    lost_after_s : float or None
        After how many seconds without an answer an instance is taken for lost, and what was sent
        to it is sent to another (key ``lost_after``). None: 60 s for a pipeline that counts
        attempts, and never for any other, which might make a product twice.
    """

    name: str
    urls: tuple[str, ...]
    max_concurrent: int | None = None
    callback: bool = False
    max_concurrent_by_class: Mapping[WorkClass, int] = field(default_factory=dict)
    max_concurrent_per_instance: int | None = None
    lost_after_s: float | None = None

    @property
    def url(self) -> str:
        """The first of its addresses."""
        return self.urls[0]


@dataclass(frozen=True, slots=True)
class Product:
    """A named kind of scientific result, and what it takes to make it.

    Attributes
    ----------
    name : str
        Unique in the graph, among products and inputs.
    m_input : tuple of str
        Mandatory inputs, at least one: the product is made as soon as all of them are there.
    o_input : tuple of str
        Optional inputs: used when they are there, not waited for longer than `o_wait_s`.
    provider : str
        The service that makes it.
    urls : tuple of str
        The provider's addresses, without a trailing slash (key ``url``).
    timeout_s : float
        A processing that lasts longer has failed (key ``timeout``).
    max_attempts : int
        Processings started for one instance before it is shown as failed.
    priority : int
        Among the processings that wait, the highest goes first.
    o_wait_s : float
        How long optional inputs on their way are waited for (key ``o_wait``).
    on_update : OnUpdate
        Whether a newer version of an input makes the product anew.
    o_wait_from : WaitFrom
        From when `o_wait_s` is counted.
    o_min : int
        How many of the optional inputs are needed at least.
    on_late : OnLate or None
        What an optional input that arrives late does; None: as `on_update` says (`improves`).
    due_s : float or None
        After so long it is late, in seconds (key ``due``); None: never.
    expires_s : float or None
        After so long it is not worth making any more, in seconds (key ``expires``); None: always.
    due_from : DueFrom
        From when both are counted.
    approval : Approval or None
        What waits for a person's approval; None: nothing does.
    late_result : LateResult
        What becomes of a result of a processing that was given up.
    stages : MadeAt
        At which stages of its inputs it is made.
    stated_class : WorkClass or None
        Its class as the graph states it (key ``class``).
    work_class : WorkClass
        The stated one; else the most urgent that any product that it is made from has by
        statement; else live.
    """

    name: str
    m_input: tuple[str, ...]
    o_input: tuple[str, ...]
    provider: str
    urls: tuple[str, ...]
    timeout_s: float = 3600.0
    max_attempts: int = 10
    priority: int = 0
    o_wait_s: float = 0.0
    on_update: OnUpdate = OnUpdate.IGNORE
    o_wait_from: WaitFrom = WaitFrom.COMPLETE
    o_min: int = 0
    on_late: OnLate | None = None
    due_s: float | None = None
    expires_s: float | None = None
    due_from: DueFrom = DueFrom.FIRST_INPUT
    approval: Approval | None = None
    late_result: LateResult = LateResult.ADOPT
    stated_class: WorkClass | None = None
    work_class: WorkClass = WorkClass.LIVE
    stages: MadeAt = MadeAt.EACH

    @property
    def url(self) -> str:
        """The first of the addresses."""
        return self.urls[0]

    @property
    def sources(self) -> tuple[str, ...]:
        """All that it is made from: mandatory inputs, then optional ones."""
        return self.m_input + self.o_input

    @property
    def improves(self) -> bool:
        """Whether an optional input that arrives late makes the product anew."""
        if self.on_late is None:
            return self.on_update is OnUpdate.REPROCESS
        return self.on_late is OnLate.IMPROVE

    @property
    def asks(self) -> bool:
        """Whether some of its versions are not available until a person approves them."""
        return self.approval is Approval.AFTER or self.late_result is not LateResult.ADOPT

    def ready(self, available: Container[str]) -> bool:
        """Return whether the mandatory inputs are `available`, and enough optional ones."""
        return all(name in available for name in self.m_input) and (
            self.o_min == 0 or sum(name in available for name in self.o_input) >= self.o_min
        )

    def lacks(self, available: Container[str]) -> tuple[str, ...]:
        """Return the inputs that are not `available` and keep it from being made.

        The optional ones are among them as long as fewer than `o_min` are available.
        """
        optional = self.o_input if self.o_min else ()
        if sum(name in available for name in optional) >= self.o_min:
            optional = ()
        return tuple(name for name in self.m_input + optional if name not in available)
