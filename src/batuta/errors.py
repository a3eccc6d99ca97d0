"""What can go wrong, as one tree.

::

    BatutaError
    ├── ConfigurationError      a wrong key, value, file or name given by the user
    ├── TilesFailedError        tiles of a product are missing             (batuta.orchestrator)
    ├── MessagingError          NATS cannot be reached or refuses          (batuta.messaging)
    └── ServiceError            another service cannot be reached or refuses (batuta.service)

Each package adds its own leaves where it raises them.
"""

import re
from collections.abc import Iterable, Iterator
from numbers import Number
from typing import Final


class BatutaError(Exception):
    """Root of all the errors that Batuta raises on purpose."""

    unreachable: bool = False
    """Whether a service did not answer at all: it may not be running."""

    def summary(self) -> str:
        """Return the message in one line; where it lists many of a kind, one of each."""
        return one_line(self)


class ConfigurationError(BatutaError, ValueError):
    """One or several mistakes in what the user gave, found before anything was done.

    Parameters
    ----------
    problems : iterable of str
        One line per mistake: the key or the name, what was given, what is accepted.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (
            (problems,) if isinstance(problems, str) else tuple(problems)
        )
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type["ConfigurationError"], tuple[tuple[str, ...]]]:
        """Cross process borders with the problems kept apart."""
        return type(self), (self.problems,)


def describe_value(value: object) -> str:
    """Return what was given, for a message: small values as they are, others by their type."""
    if value is None or isinstance(value, str | bytes | Number):
        return repr(value)
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def describe_error(exc: BaseException) -> str:
    """Return an exception's type and message in one line that can be written anywhere."""
    message = one_line(exc)
    return f"{type(exc).__name__}: {message}" if message else type(exc).__name__


def chain_of(exc: BaseException) -> Iterator[BaseException]:
    """Iterate over an exception and those shown with it: causes, contexts and groups; each once."""
    waiting, seen = [exc], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inside = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        waiting += [one for one in (each.__cause__, each.__context__, *inside) if one is not None]


def one_line(exc: object) -> str:
    """Return the message of an exception, or any text, in one line that can be written anywhere."""
    try:
        text = str(exc)
    except Exception:  # noqa: BLE001 - an exception of the user's may raise anything here
        return ""
    return encodable(" ".join(_ERRNO.sub("", text).split()))


_ERRNO: Final = re.compile(r"\[Errno -?\d+\] ")
"""The number of an `OSError`, which says nothing that its words do not."""


def encodable(text: str) -> str:
    r"""Return `text` with what UTF-8 cannot encode escaped, as in ``\\udce9``.

    File names that are not UTF-8 reach Python as lone surrogates (PEP 383).
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def printable(text: str) -> str:
    r"""Return `text` with its control characters escaped, except newlines and tabs.

    What others wrote must not move the cursor of a terminal, change its title or its colours, or
    reverse the order of what follows (bidirectional controls).
    """
    return _CONTROLS.sub(lambda found: ascii(found.group())[1:-1], encodable(text))


_CONTROLS: Final = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def shortened(text: str, max_length: int) -> str:
    """Return `text`, its middle left out if it is longer than `max_length` characters."""
    if len(text) <= max_length:
        return text
    left_out = f" ... {len(text) - max_length:,} characters ... "
    half = max_length // 2
    return text[:half] + left_out + text[len(text) - half :]
