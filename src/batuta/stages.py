"""The stage of data: preliminary, final, or a number between the two.

A stage says how definitive a version is, and is told by who announces or imports it; a version of
which none is told is final. Where stages are compared or stored they are ranks: whole numbers.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, cast

from pydantic import BeforeValidator, WithJsonSchema

PRELIMINARY: Final = "preliminary"
FINAL: Final = "final"
MAX_NUMBER: Final = 999_999

FINAL_RANK: Final = MAX_NUMBER + 1
"""That of ``final``, and of what tells no stage."""

STAGE_RULE: Final = f"preliminary, final, or a whole number from 1 to {MAX_NUMBER}"


def checked_stage(value: Any) -> Any:
    """Return `value` if it is a stage.

    Raises
    ------
    ValueError
        If it is none.
    """
    if isinstance(value, str) and value in {PRELIMINARY, FINAL}:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_NUMBER:
        return value
    raise ValueError(f"{value!r:.80} is no stage (accepted: {STAGE_RULE})")


Stage = Annotated[
    Literal["preliminary", "final"] | int,
    BeforeValidator(checked_stage),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": [PRELIMINARY, FINAL]},
                {"type": "integer", "minimum": 1, "maximum": MAX_NUMBER},
            ]
        }
    ),
]
"""As JSON has it: ``"preliminary"``, a whole number from 1, or ``"final"``."""


def stage_from_text(text: str) -> Stage:
    """Return the stage that a field of a form or an option of a command names.

    Raises
    ------
    ValueError
        If it names none.
    """
    # Not int() alone, which takes other digits, blanks and underscores.
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_NUMBER))
    return cast("Stage", checked_stage(int(text) if is_number else text))


def rank_of(stage: Stage | None) -> int:
    """Return the rank of a stage; None, where none is told, is final."""
    if isinstance(stage, int):
        return stage
    return 0 if stage == PRELIMINARY else FINAL_RANK


def stage_of(rank: int) -> Stage:
    """Return the stage that has a rank."""
    if rank == FINAL_RANK:
        return FINAL
    return rank or PRELIMINARY


def lowest(ranks: Iterable[int | None]) -> int | None:
    """Return the lowest of the ranks that are told; None if none is."""
    return min((rank for rank in ranks if rank is not None), default=None)
