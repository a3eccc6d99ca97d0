"""Instants that requests may give."""

from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter, ValidationError

from batuta.service.instants import Instant

INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)


@pytest.mark.parametrize("given", ["20261129", "0.5", " 17e8 ", "-1", 1_700_000_000, 0.5])
def test_a_number_is_no_instant(given: object) -> None:
    with pytest.raises(ValidationError, match="a number is no time"):
        INSTANT.validate_python(given)


def test_an_instant_has_a_zone() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        INSTANT.validate_python("2026-11-29T08:00")
    found = INSTANT.validate_python("2026-11-29T08:00+02:00")
    assert found == datetime(2026, 11, 29, 6, tzinfo=UTC)
