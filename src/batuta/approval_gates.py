"""What a person may be asked: before a product is made, after, or of a late result."""

from enum import StrEnum


class Gate(StrEnum):
    """What is asked of a person."""

    BEFORE = "before"
    """Whether a product is made."""
    AFTER = "after"
    """Whether anything is made from a version of a product."""
    LATE = "late"
    """Whether a result of a processing that was given up is adopted."""
