"""What ``Retry-After`` asks for: seconds or a date, however absurd (`batuta.service.client`)."""

import pytest

from batuta.service.client import refusal

SENT = "Sun, 29 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 1.5 ", 1.5),
        ("0", 0.0),
        ("9" * 300, float("9" * 300)),
        ("Sun, 29 Nov 2026 12:02:00 GMT", 120.0),
        ("Sun, 29 Nov 2026 11:00:00 GMT", 0.0),
        ("Sunday, 29-Nov-26 12:00:30 GMT", 30.0),
        ("Sun, 99 Nov 2026 12:02:00 GMT", None),
        ("9" * 400, None),
        ("-5", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_seconds_and_dates_are_understood_and_anything_else_says_nothing(
    value: str | None, seconds: float | None
) -> None:
    headers = {"date": SENT} if value is None else {"date": SENT, "retry-after": value}
    assert refusal("maker", 429, headers, b"").retry_after_s == seconds
