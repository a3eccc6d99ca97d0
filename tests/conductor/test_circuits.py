"""Circuits: when a provider that keeps failing is left alone, and when it is tried again."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batuta.conductor.decisions.circuits import (
    DEFAULT_FULL_WAIT_S,
    MAX_FULL_WAIT_S,
    MIN_FULL_WAIT_S,
    Answered,
    AttemptFailed,
    AttemptSucceeded,
    Circuit,
    CircuitLimits,
    CircuitState,
    Full,
    OpenedBy,
    Signal,
    Unanswered,
    after_signal,
    close_by_hand,
    lost_at,
    may_be_asked_at,
    may_be_polled_at,
    on_trial,
    trial_without_outcome,
    wait_asked_s,
)

NOW = 1_000_000.0
LIMITS = CircuitLimits(unanswered=3, failed=4, first_wait_s=2.0, max_wait_s=60.0)
NEW = Circuit(provider="maker", instance="http://a")
WHOSE = {"provider": "maker", "instance": "http://a"}


def refused(number: int = 0) -> Unanswered:
    """No connection."""
    return Unanswered(**WHOSE, processing_id=f"p{number}", reason="Connection refused")


def error_500(number: int) -> Unanswered:
    return Unanswered(**WHOSE, processing_id=f"p{number}", reason="500", obs_id=f"o{number}")


def failed(number: int) -> AttemptFailed:
    return AttemptFailed(
        **WHOSE, processing_id=f"p{number}", obs_id=f"o{number}", reason=f"o{number} is bad"
    )


def succeeded(number: int = 0) -> AttemptSucceeded:
    return AttemptSucceeded(**WHOSE, processing_id=f"p{number}")


def answered(number: int = 0) -> Answered:
    return Answered(**WHOSE, processing_id=f"p{number}")


def full(wait_s: float, *, polls: bool = False) -> Full:
    return Full(**WHOSE, processing_id="p0", wait_s=wait_s, polls=polls)


def after(*signals: Signal, circuit: Circuit = NEW, now: float = NOW) -> Circuit:
    for signal in signals:
        circuit = after_signal(circuit, signal, LIMITS, now)
    return circuit


UNANSWERED = after(refused(), refused(), refused())
FAILING = after(*map(failed, range(4)))
TABLE: dict[str, tuple[Sequence[Signal], OpenedBy | None]] = {
    "no connection, so often": ([refused()] * 3, OpenedBy.UNANSWERED),
    "no connection, once less": ([refused()] * 2, None),
    "no connection, for one processing": ([refused(1)] * 3, OpenedBy.UNANSWERED),
    "5xx of several observations": ([error_500(n) for n in range(3)], OpenedBy.UNANSWERED),
    "5xx of one observation, however often": ([error_500(1)] * 50, None),
    "5xx with an answer between": (
        [error_500(1), error_500(2), answered(), error_500(3), error_500(4)],
        None,
    ),
    "failures of several observations": ([failed(n) for n in range(4)], OpenedBy.FAILING),
    "failures of one observation, however often": ([failed(1)] * 50, None),
    "failures with a success between": (
        [failed(1), failed(2), failed(3), succeeded(), failed(4), failed(5), failed(6)],
        None,
    ),
    "failures with answers between": (
        [each for n in range(4) for each in (answered(n), failed(n))],
        OpenedBy.FAILING,
    ),
    "full, however often": ([full(5.0)] * 50, None),
    "no connection any more, of one that made nothing well": (
        [*map(failed, range(4)), refused(), refused(), refused()],
        OpenedBy.UNANSWERED,
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_a_circuit_opens_by_what_the_table_says_and_nothing_else(case: str) -> None:
    signals, opened_by = TABLE[case]
    circuit = after(*signals)
    assert circuit.opened_by is opened_by
    assert circuit.open == (opened_by is not None)
    assert (circuit.since == NOW) == circuit.open


def test_an_open_circuit_tells_since_when_why_and_when_it_is_tried() -> None:
    assert (UNANSWERED.since, UNANSWERED.retry_at) == (NOW, NOW + 2)
    assert UNANSWERED.reason == "Connection refused"
    assert FAILING.reason == "o3 is bad"


@pytest.mark.parametrize(("opened", "failure"), [(UNANSWERED, refused(7)), (FAILING, failed(7))])
def test_each_trial_that_fails_doubles_the_wait_up_to_the_longest(
    opened: Circuit, failure: Signal
) -> None:
    waits = []
    for _ in range(8):
        circuit = on_trial(opened, "p7")
        assert may_be_asked_at(circuit, NOW) is None
        opened = after(failure, circuit=circuit)
        waits.append((opened.retry_at or 0) - NOW)
    assert waits == [4, 8, 16, 32, 60, 60, 60, 60]
    assert opened.since == NOW


@pytest.mark.parametrize("failure", [refused(8), failed(8)])
def test_only_the_trial_counts_while_it_is_under_way(failure: Signal) -> None:
    for opened in (UNANSWERED, FAILING):
        circuit = on_trial(opened, "p7")
        later = after(failure, circuit=circuit, now=NOW + 1)
        assert (later.state, later.trials) == (CircuitState.HALF_OPEN, 0)


@pytest.mark.parametrize(
    ("opened", "signal", "closes"),
    [
        (UNANSWERED, answered(7), True),
        (UNANSWERED, full(5.0), True),
        (UNANSWERED, succeeded(7), False),
        (FAILING, answered(7), False),
        (FAILING, succeeded(3), True),
    ],
)
@pytest.mark.parametrize("state", ["open", "half-open"])
def test_only_the_opposite_of_what_opened_a_circuit_closes_it(
    opened: Circuit, signal: Signal, closes: bool, state: str
) -> None:
    circuit = on_trial(opened, "p7") if state == "half-open" else opened
    assert after(signal, circuit=circuit).open is not closes


def test_what_is_not_open_is_not_tried() -> None:
    closed = Circuit(provider="maker", instance="http://there")
    assert on_trial(closed, "p7") == closed
    trying = on_trial(FAILING, "p0")
    assert on_trial(trying, "p7") == trying


def test_a_trial_that_finds_no_room_or_is_cancelled_is_repeated_without_a_longer_wait() -> None:
    circuit = on_trial(FAILING, "p0")
    assert after(full(30.0), circuit=circuit).retry_at == NOW + 30
    again = trial_without_outcome(circuit, NOW + 1)
    assert (again.state, again.trials) == (CircuitState.OPEN, 0)
    assert may_be_asked_at(again, NOW) == NOW + 1


def test_a_closed_circuit_says_nothing_that_a_new_one_does_not() -> None:
    assert not after(answered(), circuit=UNANSWERED).remarkable
    assert not after(succeeded(), circuit=FAILING).remarkable
    assert not close_by_hand(FAILING).remarkable


@pytest.mark.parametrize(
    ("asked_s", "wait_s"),
    [
        (None, DEFAULT_FULL_WAIT_S),
        (0.0, MIN_FULL_WAIT_S),
        (30.0, 30.0),
        (1e300, MAX_FULL_WAIT_S),
        (float("inf"), MAX_FULL_WAIT_S),
    ],
)
def test_how_long_a_full_instance_is_left_alone_is_bounded(
    asked_s: float | None, wait_s: float
) -> None:
    assert wait_asked_s(asked_s) == wait_s


@pytest.mark.parametrize("polls", [False, True])
def test_a_full_instance_is_sent_nothing_until_then_and_is_polled_unless_it_refused_that(
    polls: bool,
) -> None:
    circuit = after(full(30.0, polls=polls))
    assert may_be_asked_at(circuit, NOW) == NOW + 30
    assert may_be_polled_at(circuit, NOW) == (NOW + 30 if polls else NOW)
    assert not after(answered(), circuit=circuit, now=NOW + 31).remarkable
    assert after(answered(), circuit=circuit, now=NOW + 1).full_until == NOW + 30


def test_an_instance_is_lost_once_its_circuit_is_open_and_it_has_not_answered_for_so_long() -> None:
    early = after(refused(), refused())
    assert lost_at(early, 60.0) is None
    opened = after(refused(), circuit=early, now=NOW + 50)
    assert lost_at(opened, 60.0) == NOW + 60
    assert lost_at(replace(opened, lost=NOW + 60), 60.0) is None
    assert lost_at(FAILING, 60.0) is None
    assert lost_at(after(answered(), circuit=opened), 60.0) is None
    # What its trials were about is given up with it, too.
    tried = after(refused(7), circuit=on_trial(replace(opened, lost=NOW + 60), "p7"))
    assert lost_at(tried, 60.0) == NOW + 60


numbers = st.integers(0, 5)
signals = st.one_of(
    numbers.map(refused),
    numbers.map(error_500),
    numbers.map(failed),
    numbers.map(succeeded),
    numbers.map(answered),
    st.floats(0.5, 300).map(full),
)
steps = st.one_of(signals, st.just("try"), st.floats(0, 500).map(lambda s: ("wait", s)))


@given(st.lists(steps, max_size=60))
def test_an_instance_is_always_asked_again_within_the_longest_wait(happened: list[object]) -> None:
    circuit, now = NEW, NOW
    for step in happened:
        if isinstance(step, Signal):
            circuit = after_signal(circuit, step, LIMITS, now)
        elif step == "try":
            if circuit.state is CircuitState.OPEN and may_be_asked_at(circuit, now) == now:
                circuit = on_trial(circuit, "p0")
        else:
            now += step[1]  # type: ignore[index]  # a wait
        asked_at = may_be_asked_at(circuit, now)
        assert (asked_at is None) == (circuit.state is CircuitState.HALF_OPEN)
        assert asked_at is None or now <= asked_at <= now + MAX_FULL_WAIT_S
        assert circuit.open == (circuit.opened_by is not None) == (circuit.since is not None)
        assert (circuit.trial is None) == (circuit.state is not CircuitState.HALF_OPEN)
        assert len(circuit.unanswered) <= LIMITS.unanswered
        assert len(circuit.failed) <= LIMITS.failed


@given(st.lists(st.one_of(st.just(failed(1)), st.just(error_500(1)), signals), max_size=60))
def test_one_bad_observation_never_opens_a_circuit(happened: list[Signal]) -> None:
    of_one = [
        each
        for each in happened
        if isinstance(each, Answered | AttemptSucceeded | Full)
        or getattr(each, "obs_id", None) == "o1"
    ]
    assert not after(*of_one).open
