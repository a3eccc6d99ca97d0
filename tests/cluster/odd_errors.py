"""Exceptions that tasks raise, some of which cannot be pickled, read back or even shown."""

import threading
from collections.abc import Callable
from typing import Any, Final, NoReturn


class CodedError(Exception):
    """Reads back with other words: its argument is not that of `Exception`."""

    def __init__(self, code: Any = 0) -> None:
        super().__init__(f"code {code}")


class PlacedError(Exception):
    """Does not read back at all."""

    def __init__(self, row: int, col: int) -> None:
        super().__init__(f"at {row}, {col}")


class SilentError(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise ValueError("no words")


class LeavingError(Exception):
    """Ends the process that pickles it."""

    def __reduce__(self) -> NoReturn:
        raise SystemExit(1)


def _locked() -> Exception:
    error = ValueError("locked")
    error.lock = threading.Lock()  # type: ignore[attr-defined]  # as programs do
    return error


ERRORS: Final[dict[str, Callable[[], BaseException]]] = {
    "plain": lambda: ValueError("no light"),
    "exit": lambda: SystemExit("my own words"),
    "interrupt": KeyboardInterrupt,
    "other words": lambda: CodedError(7),
    "odd constructor": lambda: PlacedError(1, 2),
    "unpicklable": _locked,
    "no words": lambda: SilentError("no light"),
    "leaves": lambda: LeavingError("no light"),
}
"""By what is odd about them."""

KEPT: Final = {
    "plain": ValueError,
    "exit": SystemExit,
    "interrupt": KeyboardInterrupt,
    "no words": SilentError,
}
"""Those that cross a process border as themselves, with their type."""

REASONS: Final = {
    "plain": "ValueError: no light",
    "exit": "SystemExit: my own words",
    "interrupt": "KeyboardInterrupt",
    "other words": "CodedError: code 7",
    "odd constructor": "PlacedError: at 1, 2",
    "unpicklable": "ValueError: locked",
    "no words": "SilentError",
    "leaves": "LeavingError: no light",
}


def raise_oddly(way: str) -> NoReturn:
    error = ERRORS[way]()
    raise error from LookupError("before it")
