"""Why a product is not there, back to the causes, and what would end each: without a database."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from batuta.conductor.decisions.approvals import Question, Verdict, decided_text
from batuta.conductor.decisions.holds import Hold
from batuta.conductor.decisions.rules import pending_optional_inputs
from batuta.conductor.decisions.stages import Staged, below_final, lacking, version_text
from batuta.graph import Approval, Graph
from batuta.messaging import ProcessingState as State
from batuta.messaging.processings import instant_of

MAX_DEPTH: Final = 100
"""How many levels of a graph are followed back from a product to its causes."""


class Situation(StrEnum):
    """How a product of an observation is."""

    AVAILABLE = "available"
    BEING_MADE = "being made"
    RETRYING = "retrying"
    HELD = "held"
    UNAPPROVED = "waits for approval"
    REFUSED = "refused"
    """A version is archived, and a person refused it."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    SET_ASIDE = "set aside"
    """The graph in force does not make it from what is there; an earlier version did."""
    LACKS_INPUTS = "lacks inputs"
    WAITS_FOR_OPTIONAL = "waits for optional inputs"
    NOT_ARRIVED = "not arrived"
    NOT_FINAL = "not final"
    """It is available, and what is made from it waits until it is final."""
    NOT_REQUESTED = "not requested"
    """All that it needs is there, and nothing has been announced since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownProcessing:
    """The newest processing of a product; times are seconds since 1970.

    `not_before` is when it may be requested; None if it does not wait. `hold` is what keeps it
    back, or would once it is approved; None if nothing does. `set_aside` is the version of the
    graph that does not make it; None if it was not set aside.
    """

    id: str
    state: State
    attempt: int
    max_attempts: int
    error: str | None
    since: float
    not_before: float | None = None
    hold: Hold | None = None
    set_aside: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of one observation.

    Attributes
    ----------
    versions : mapping
        What is available.
    processings : mapping
        The newest of each product.
    since : float or None
        When the first of what is available was heard of; None if nothing is.
    now : float
        What time it is.
    asked : mapping
        The newest version of each product that waits for a person, or was refused.
    staged : Staged or None
        What is known of stages; None if none was told.
    """

    obs_id: str
    versions: Mapping[str, int]
    processings: Mapping[str, KnownProcessing]
    since: float | None
    now: float
    asked: Mapping[str, Question] = field(default_factory=dict)
    staged: Staged | None = None

    @property
    def failed(self) -> frozenset[str]:
        """The products whose newest processing ended without success."""
        return frozenset(
            name
            for name, each in self.processings.items()
            if each.state in {State.FAILED, State.CANCELLED}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """How a product is, and of one that is not there what it waits for, in its turn.

    Attributes
    ----------
    maker : str or None
        The provider that makes it; None of an input.
    since : float or None
        Since when it is so, as far as that is known.
    detail : str or None
        Its error, and its attempts.
    hold : Hold or None
        What keeps it back, or would once it is approved.
    approval : Approval or None
        Which approval it has yet to wait for: before it is made, or after.
    lacks : tuple of Cause
        The inputs that it lacks. Each product is followed once, and no further than `MAX_DEPTH`
        levels: where it comes up again, or lies deeper, this is empty.
    """

    product: str
    situation: Situation
    maker: str | None = None
    since: float | None = None
    detail: str | None = None
    processing_id: str | None = None
    hold: Hold | None = None
    approval: Approval | None = None
    lacks: "tuple[Cause, ...]" = ()


def cause_of(graph: Graph, product: str, facts: Facts) -> Cause:
    """Return how a product is, and why, recursively."""
    return _CauseFinder(graph, facts).of(product, 0)


class _CauseFinder:
    """Follows each product once."""

    def __init__(self, graph: Graph, facts: Facts) -> None:
        self._graph = graph
        self._facts = facts
        self._followed: set[str] = set()

    def of(self, product: str, depth: int) -> Cause:
        cause = self._of(product, depth)
        return replace(cause, approval=self._approval_to_come(cause))

    def _approval_to_come(self, cause: Cause) -> Approval | None:
        """Return the approval that a product will wait for, and does not yet."""
        definition = self._graph.products.get(cause.product)
        approval = None if definition is None else definition.approval
        if approval is Approval.BEFORE:
            return approval if cause.situation in _NOT_CLAIMED else None
        return None if cause.situation in _THERE else approval

    def _of(self, product: str, depth: int) -> Cause:
        graph, facts = self._graph, self._facts
        definition = graph.products.get(product)
        maker = definition.provider if definition is not None else None
        processing = facts.processings.get(product)
        available = product in facts.versions
        asked = facts.asked.get(product)
        if asked is not None and not available and (processing is None or processing.state.ended):
            return _of_asked(product, maker, asked)
        if processing is not None and not (available and processing.state is State.SUCCEEDED):
            pending = self._awaited_optional(product, processing)
            if pending:
                return self._of_waiting(product, processing, pending, depth)
            return self._of_unavailable(product, maker, processing, depth)
        if available:
            return self._of_available(product, maker, depth)
        if definition is None:
            situation = Situation.NOT_ARRIVED
            return Cause(product=product, situation=situation, since=facts.since)
        missing = lacking(definition, facts.versions, facts.staged)
        return Cause(
            product=product,
            situation=Situation.LACKS_INPUTS if missing else Situation.NOT_REQUESTED,
            maker=maker,
            since=facts.since,
            lacks=self._followed_once(product, missing, depth),
        )

    def _of_unavailable(
        self, product: str, maker: str | None, processing: KnownProcessing, depth: int
    ) -> Cause:
        cause = _of_processing(product, maker, processing)
        definition = self._graph.products.get(product)
        if definition is None or cause.situation not in {Situation.FAILED, Situation.CANCELLED}:
            return cause
        # What it was made from may have been withdrawn: to try it again changes nothing then.
        missing = lacking(definition, self._facts.versions, self._facts.staged)
        return replace(cause, lacks=self._followed_once(product, missing, depth))

    def _of_available(self, product: str, maker: str | None, depth: int) -> Cause:
        staged, versions = self._facts.staged, self._facts.versions
        # Only what is not final is followed although it is available.
        if staged is None or depth == 0:
            return Cause(product=product, situation=Situation.AVAILABLE, maker=maker)
        definition = self._graph.products.get(product)
        lower = () if definition is None else below_final(definition, versions, staged)
        return Cause(
            product=product,
            situation=Situation.NOT_FINAL,
            maker=maker,
            detail=f"has {version_text(versions[product], staged.rank(product))}",
            lacks=self._followed_once(product, lower, depth),
        )

    def _followed_once(self, product: str, names: Sequence[str], depth: int) -> tuple[Cause, ...]:
        if product in self._followed or depth >= MAX_DEPTH:
            return ()
        self._followed.add(product)
        return tuple(self.of(name, depth + 1) for name in names)

    def _awaited_optional(self, product: str, processing: KnownProcessing) -> tuple[str, ...]:
        """Return the optional inputs that a claim is not requested without yet."""
        definition, facts = self._graph.products.get(product), self._facts
        waits = processing.state is State.WAITING and processing.attempt == 0
        if definition is None or not waits or (processing.not_before or 0.0) <= facts.now:
            return ()
        return pending_optional_inputs(self._graph, definition, facts.versions, facts.failed)

    def _of_waiting(
        self, product: str, processing: KnownProcessing, pending: Sequence[str], depth: int
    ) -> Cause:
        until = instant_of(processing.not_before or 0.0)
        return Cause(
            product=product,
            situation=Situation.WAITS_FOR_OPTIONAL,
            maker=self._graph.products[product].provider,
            since=processing.since,
            detail=f"{', '.join(pending)}, until {until:%Y-%m-%d %H:%M:%S}",
            processing_id=processing.id,
            lacks=self._followed_once(product, pending, depth),
        )


_NOT_CLAIMED: Final = frozenset({Situation.LACKS_INPUTS, Situation.NOT_REQUESTED})
_THERE: Final = frozenset(
    {Situation.AVAILABLE, Situation.NOT_FINAL, Situation.UNAPPROVED, Situation.REFUSED}
)
"""A version is there: what was to be asked about it was asked."""


def _of_asked(product: str, maker: str | None, asked: Question) -> Cause:
    pending = asked.state is Verdict.PENDING
    what = f"version {asked.version}" if pending else decided_text(asked)
    return Cause(
        product=product,
        situation=Situation.UNAPPROVED if pending else Situation.REFUSED,
        maker=maker,
        since=asked.since if pending else asked.decided,
        detail=what + (f"; {asked.detail}" if asked.detail else ""),
        processing_id=asked.processing_id,
    )


_SITUATIONS = {
    State.UNAPPROVED: Situation.UNAPPROVED,
    State.RETRYING: Situation.RETRYING,
    State.HELD: Situation.HELD,
    State.FAILED: Situation.FAILED,
    State.CANCELLED: Situation.CANCELLED,
}


def _of_processing(product: str, maker: str | None, processing: KnownProcessing) -> Cause:
    attempts = f"attempt {processing.attempt} of {processing.max_attempts}"
    kept_back = _kept_back(processing)
    if processing.state is State.UNAPPROVED:
        then = "" if processing.hold is None else f"; then held by {processing.hold.words()}"
        attempts, kept_back = f"before it is made{then}", ""
    situation = _SITUATIONS.get(processing.state, Situation.BEING_MADE)
    if processing.set_aside is not None:
        situation = Situation.SET_ASIDE
    state = f"{processing.state}, " if situation is Situation.BEING_MADE else ""
    error = f": {processing.error}" if processing.error else ""
    return Cause(
        product=product,
        situation=situation,
        maker=maker,
        since=processing.since,
        detail=f"{state}{kept_back}{attempts}{error}",
        processing_id=processing.id,
        hold=processing.hold,
    )


def _kept_back(processing: KnownProcessing) -> str:
    return "" if processing.hold is None else f"by {processing.hold.words()}; "


def remedies(cause: Cause, obs_id: str) -> tuple[str, ...]:
    """Return what would make a product that is not there: what to do, or what to wait for."""
    return tuple(dict.fromkeys(_remedies(cause, obs_id)))


_MEND: Final = "batuta retry {id}, once its cause is mended: batuta log tells"
_REMEDIES: Final[Mapping[Situation, str]] = {
    Situation.FAILED: _MEND,
    Situation.CANCELLED: "batuta retry {id}, if it is to be made after all",
    Situation.SET_ASIDE: "what {product} lacks, or a version of the graph that makes it of what is "
    "there: batuta graph versions, batuta graph apply",
    Situation.RETRYING: "the next attempt at {product}, by itself; or batuta retry {id}",
    Situation.UNAPPROVED: "batuta approve {product} {obs_id}: batuta approvals shows what is asked",
    Situation.REFUSED: "a newer version of {product}; or batuta approve {product} {obs_id} "
    "--version N, if it may be used after all",
    Situation.NOT_ARRIVED: "the arrival of {product}: batuta import --product {product} "
    "--obs-id {obs_id} FILE, or its announcement on data.*",
    Situation.NOT_FINAL: "the final {product}: batuta import --product {product} "
    "--obs-id {obs_id} --stage final FILE, or its announcement on data.*",
    Situation.BEING_MADE: "the end of {product} at {maker}",
    Situation.NOT_REQUESTED: "batuta make {product} {obs_id}",
}


_APPROVALS: Final[Mapping[Approval, str]] = {
    Approval.BEFORE: "then the approval of {product}, before it is made: batuta approve {product} "
    "{obs_id}",
    Approval.AFTER: "then the approval of {product}, once it is made: batuta approve {product} "
    "{obs_id}",
}


def _remedies(cause: Cause, obs_id: str) -> Iterator[str]:
    yield from _present_remedies(cause, obs_id)
    if cause.approval is not None:
        yield _APPROVALS[cause.approval].format(product=cause.product, obs_id=obs_id)


def _present_remedies(cause: Cause, obs_id: str) -> Iterator[str]:
    """Yield what would end what a product waits for at this moment."""
    product = cause.product
    text = _REMEDIES.get(cause.situation)
    if text is not None and not cause.lacks:
        yield text.format(product=product, obs_id=obs_id, maker=cause.maker, id=cause.processing_id)
        if cause.hold is not None:
            yield f"then {_release_of(cause.hold)}"
        return
    match cause.situation:
        case Situation.HELD:
            yield _release_of(cause.hold)
        case Situation.WAITS_FOR_OPTIONAL:
            yield f"the end of its wait, by itself: for {cause.detail}"
            for each in cause.lacks:
                yield from _remedies(each, obs_id)
        case _:
            for each in cause.lacks:
                yield from _remedies(each, obs_id)


def _release_of(hold: Hold | None) -> str:
    if hold is None:
        return "the release of what holds it: batuta holds"
    return f"the release of {hold.name}: {hold.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequence:
    """A product that is made from another, and what it lacks besides that.

    `approval` is what of it waits for a person, before or after it is made; None: nothing does.
    """

    product: str
    available: bool
    lacks: tuple[str, ...]
    approval: Approval | None = None


def consequences(graph: Graph, product: str, facts: Facts) -> tuple[Consequence, ...]:
    """Return the products that have `product` among their inputs."""
    there = {product: 0, **facts.versions}
    return tuple(
        Consequence(
            product=each.name,
            available=each.name in facts.versions,
            lacks=lacking(each, there, facts.staged),
            approval=each.approval,
        )
        for each in graph.fed_by(product)
    )


APPROVAL_WORDS: Final[Mapping[Approval, str]] = {
    Approval.BEFORE: "will wait for approval before it is made",
    Approval.AFTER: "will wait for approval once it is made",
}
"""What a product will wait for that needs a person."""

_WITHOUT_MAKER: Final = {
    Situation.NOT_ARRIVED: " (arrives from outside)",
    Situation.NOT_FINAL: " (arrives from outside)",
    Situation.AVAILABLE: " (arrives from outside)",
    Situation.SET_ASIDE: " (made by nobody any more)",
}


def in_words(cause: Cause) -> Iterator[tuple[int, str]]:
    """Yield how a product is and what it waits for, a line for each, with its depth."""
    waiting = [(0, cause)]
    while waiting:
        depth, each = waiting.pop()
        who = f" (made by {each.maker})" if each.maker else _WITHOUT_MAKER.get(each.situation, "")
        detail = f": {each.detail}" if each.detail else ""
        detail += "" if each.approval is None else f"; {APPROVAL_WORDS[each.approval]}"
        yield depth, f"{each.product}{who}: {each.situation}{detail}"
        waiting += [(depth + 1, lacking) for lacking in reversed(each.lacks)]
