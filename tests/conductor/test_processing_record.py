"""How long is waited between attempts, and between polls."""

from hypothesis import given
from hypothesis import strategies as st

from batuta.conductor.decisions.processing_record import (
    MAX_POLL_WAIT_S,
    poll_wait_s,
    retry_wait_s,
)


@given(attempt=st.integers(1, 10_000), first_s=st.floats(0.01, 10), max_s=st.floats(10, 1e4))
def test_waits_between_attempts_grow_up_to_the_longest(
    attempt: int, first_s: float, max_s: float
) -> None:
    wait, following = (retry_wait_s(n, first_s, max_s) for n in (attempt, attempt + 1))
    assert first_s <= wait <= following <= max_s


@given(since_s=st.floats(0, 1e6), later_s=st.floats(0, 1e6), first_s=st.floats(0.01, 60))
def test_waits_between_polls_grow_up_to_the_longest(
    since_s: float, later_s: float, first_s: float
) -> None:
    wait, following = (poll_wait_s(each, first_s) for each in (since_s, since_s + later_s))
    assert first_s <= wait <= following <= MAX_POLL_WAIT_S
