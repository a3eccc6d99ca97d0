"""What waits for a person: what becomes of it when that person approves or refuses."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from batuta.approval_gates import Gate
from batuta.conductor.decisions.processing_record import GIVEN_UP, ProcessingRecord
from batuta.graph import Approval, LateResult, Product
from batuta.messaging import ProcessingState as State


class Verdict(StrEnum):
    """How far a question has come."""

    PENDING = "pending"
    APPROVED = "approved"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    """The version was withdrawn in the sdb before anyone had decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked about one version, and what was answered.

    Attributes
    ----------
    version : str
        Of the product; before it is made, those of its inputs: ``A=1,B=2``.
    detail : str or None
        Why it is asked.
    since : float
        Since when, in seconds since 1970.
    by, decided, reason
        Who has decided it, when and why.
    """

    gate: Gate
    product: str
    obs_id: str
    version: str
    since: float
    processing_id: str | None = None
    detail: str | None = None
    state: Verdict = Verdict.PENDING
    by: str | None = None
    decided: float | None = None
    reason: str | None = None


def first_state(product: Product | None, *, approved: bool) -> State:
    """Return the state in which a processing begins, or begins again."""
    asks = product is not None and product.approval is Approval.BEFORE
    return State.UNAPPROVED if asks and not approved else State.WAITING


def versions_text(inputs: Mapping[str, int]) -> str:
    """Return the versions of inputs as a person states them: ``A=1,B=2``."""
    return ",".join(f"{name}={inputs[name]}" for name in sorted(inputs))


def asks_anew(before: Question | None, after: Question) -> bool:
    """Return whether a person is to be told of what is asked before a product is made.

    They were told of it once it waited (`before`); that it is made from more inputs than were
    there then is no news, that it is made from other versions of them is.
    """
    if before is None:
        return True
    return not set(before.version.split(",")) <= set(after.version.split(","))


def approve(record: ProcessingRecord) -> ProcessingRecord | None:
    """Return `record` to be requested at its time; None if it does not wait for approval."""
    if record.state is not State.UNAPPROVED:
        return None
    return replace(record, state=State.WAITING, approved=True)


def refuse(record: ProcessingRecord, by: str, reason: str, now: float) -> ProcessingRecord | None:
    """Return `record` refused; None if it does not wait for approval.

    Retried, it asks again.
    """
    if record.state is not State.UNAPPROVED:
        return None
    return replace(record, state=State.CANCELLED, error=f"refused by {by}: {reason}", ended=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """The processing that a version is said to come of, as it is now."""

    id: str
    state: State
    error: str | None


def question_of(product: Product, maker: Maker | None) -> tuple[Gate, Verdict, str | None] | None:
    """Return what is asked of a new version of `product`; None if it is available at once.

    A late result that is adopted answers what would be asked of its consequences, too.
    """
    if maker is not None and maker.state in GIVEN_UP:
        cause = f": {maker.error}" if maker.error else ""
        detail = f"its processing {maker.id} is {maker.state}{cause}"
        if product.late_result is LateResult.ASK:
            return Gate.LATE, Verdict.PENDING, detail
        if product.late_result is LateResult.REFUSE:
            return Gate.LATE, Verdict.REFUSED, detail
    if product.approval is Approval.AFTER:
        return Gate.AFTER, Verdict.PENDING, None
    return None


def choose(
    questions: Iterable[Question], version: str | None, about: str
) -> tuple[Question | None, str]:
    """Return the question that a command answers, or None and why there is none, in one line.

    Parameters
    ----------
    questions : iterable of Question
        All that are, or were, asked about a product of an observation, the oldest first.
    version : str or None
        The version that the command states.
    about : str
        The product and the observation, for messages.
    """
    found = list(questions)
    waiting = [each for each in found if each.state is Verdict.PENDING]
    if version is None:
        if len(waiting) == 1:
            return waiting[0], ""
        if waiting:
            listed = ", ".join(each.version for each in waiting)
            return None, f"{about}: several versions wait: {listed} (state one of them)"
        return None, f"{about}: nothing waits for approval{_decided(found[-1:])}"
    stated = [each for each in found if each.version == version]
    if stated:
        return stated[-1], ""
    now = ", ".join(each.version for each in waiting) or "nothing"
    return None, f"{about}: version {version} does not wait for approval ({now} does)"


def problem_of(question: Question, verdict: Verdict, about: str) -> str | None:
    """Return why `question` cannot be answered so, in one line; None if it can.

    What was refused may be approved after all, where it still is there.
    """
    if question.state is Verdict.PENDING:
        return None
    changes_mind = question.state is Verdict.REFUSED and verdict is Verdict.APPROVED
    if changes_mind and question.gate is not Gate.BEFORE:
        return None
    hint = ""
    if question.state is Verdict.REFUSED and question.gate is Gate.BEFORE:
        hint = " (batuta retry asks again)"
    elif question.state is Verdict.APPROVED and question.gate is not Gate.BEFORE:
        hint = " (batuta rm withdraws it)" if verdict is Verdict.REFUSED else ""
    return f"{about}: {decided_text(question)}{hint}"


def _decided(questions: Iterable[Question]) -> str:
    return "".join(f": {decided_text(each)}" for each in questions)


def question_text(question: Question) -> str:
    """Say what is asked about a version, or what was decided."""
    if question.state is not Verdict.PENDING:
        return decided_text(question)
    what = "to be adopted" if question.gate is Gate.LATE else "for approval"
    return f"version {question.version} waits {what}"


def decided_text(question: Question) -> str:
    """Say what was decided, by whom and why."""
    if question.state is Verdict.WITHDRAWN:
        return f"version {question.version} was withdrawn"
    by = f" by {question.by}" if question.by else ""
    reason = f": {question.reason}" if question.reason else ""
    return f"version {question.version} was {question.state}{by}{reason}"
