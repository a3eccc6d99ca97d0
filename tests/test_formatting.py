"""Numbers as people read them."""

import pytest

from batuta.formatting import format_numbers


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([7], "7"), ([3, 1, 2], "1-3"), ([9, 1, 2, 2, 4], "1-2, 4, 9")],
)
def test_numbers_that_follow_one_another_are_a_range(numbers: list[int], text: str) -> None:
    assert format_numbers(numbers) == text
