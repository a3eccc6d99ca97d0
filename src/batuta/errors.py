"""What can go wrong, as one tree.

::

    BatutaError
    ├── ConfigurationError      a wrong key, value, file or name given by the user
    ├── TilesFailedError        tiles of a product are missing             (batuta.orchestrator)
    ├── MessagingError          NATS cannot be reached or refuses          (batuta.messaging)
    └── ServiceError            another service cannot be reached or refuses (batuta.service)

Each package adds its own leaves where it raises them.
"""

from collections.abc import Iterable
from numbers import Number


class BatutaError(Exception):
    """Root of all the errors that Batuta raises on purpose."""


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


def told(value: object) -> str:
    """Say in a few words what was given: small values as they are, others by their type."""
    if value is None or isinstance(value, str | bytes | Number):
        return repr(value)
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
