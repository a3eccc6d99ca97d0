"""The log of a service: what repeats is counted, not written."""

import logging

from batuta.service.repeated_lines import BURST, MAX_LINES, WINDOW_S, RepeatedLines


def record(message: str, at_s: float = 0.0) -> logging.LogRecord:
    made = logging.LogRecord("asyncio", logging.ERROR, "", 1, message, (), None)
    made.created = at_s
    return made


def test_a_line_that_repeats_is_written_a_few_times_then_counted() -> None:
    lines = RepeatedLines()
    admitted = [lines.admit(record("out of files")) for _ in range(1000)]
    assert admitted[: BURST - 1] == [""] * (BURST - 1)
    assert admitted[BURST - 1] == " [again and again: more of these lines are counted]"
    assert admitted[BURST:] == [None] * (1000 - BURST)
    assert (
        lines.admit(record("out of files", WINDOW_S)) == " [995 more of these lines were left out]"
    )
    assert lines.admit(record("out of files", 3 * WINDOW_S)) == ""


def test_different_lines_are_all_written() -> None:
    lines = RepeatedLines()
    assert {lines.admit(record(f"product {number}")) for number in range(3 * MAX_LINES)} == {""}
    assert len(lines._lines) == MAX_LINES
