"""Who gives a command: the name that a token proves, else the name that the caller claims."""

import getpass
import os
import re
import socket
from dataclasses import dataclass
from typing import Final

OPERATOR_HEADER: Final = "Batuta-Operator"
OPERATOR_VARIABLE: Final = "BATUTA_OPERATOR"
OPERATOR_RULE: Final = "1 to 128 printable ASCII characters, no space at either end"
_PATTERN: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,126}[\x21-\x7e])?")


@dataclass(frozen=True, slots=True)
class Operator:
    """Who gives a command.

    Attributes
    ----------
    name : str or None
        None if nobody says.
    proved : bool
        Whether a token that belongs to that name alone came with the command.
    """

    name: str | None = None
    proved: bool = False

    @property
    def label(self) -> str:
        """How the record names it: ``operator alice``, ``operator alice@lab (claimed)``."""
        if self.name is None:
            return "operator"
        return f"operator {self.name}" + ("" if self.proved else " (claimed)")


UNNAMED: Final = Operator()


def is_operator_name(text: str) -> bool:
    """Return whether a text may name an operator; it is shown, and never becomes a path."""
    return _PATTERN.fullmatch(text) is not None


def default_operator() -> str:
    """Return the name in ``BATUTA_OPERATOR``, else the login name at this machine's name."""
    given = os.environ.get(OPERATOR_VARIABLE)
    if given:
        return given
    try:
        login = getpass.getuser()
    except (OSError, KeyError):  # no such user, as in a container: KeyError before Python 3.13
        login = f"uid-{os.getuid()}"
    name = f"{login}@{socket.gethostname()}"
    return name.encode("ascii", "backslashreplace").decode().strip()[:128]
