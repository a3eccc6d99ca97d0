"""Who has signed in: a browser shows a cookie, by which the token that was given is found again.

The cookie is ``HttpOnly`` and ``SameSite=Strict``: no script reads it, and no page of another
origin makes a browser send it (RFC 6265bis, 5.6.7). The token itself never leaves the service.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.requests import cookie_parser

COOKIE: Final = "batuta_session"
MAX_SESSIONS: Final = 1000
SESSION_S: Final = 12 * 3600.0
"""How long a session lasts: a shift."""


@dataclass(frozen=True, slots=True)
class Session:
    """A person who has signed in.

    Attributes
    ----------
    token : str
        What is shown to the services that are called.
    expires : float
        When it ends, on the clock of `Sessions`.
    """

    token: str
    expires: float


class Sessions:
    """The sessions of a dashboard; those that were used longest ago make room for new ones.

    Parameters
    ----------
    clock : callable
        Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def open(self, token: str) -> str:
        """Open a session with a token that was found right; return what its cookie holds."""
        key = secrets.token_urlsafe(32)
        self._sessions[key] = Session(token, self._clock() + SESSION_S)
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return key

    def find(self, cookie_header: str) -> Session | None:
        """Return the session that a request's ``Cookie`` header names, if it lasts."""
        key = cookie_parser(cookie_header).get(COOKIE, "")
        found = self._sessions.get(key)
        if found is None:
            return None
        if self._clock() >= found.expires:
            del self._sessions[key]
            return None
        self._sessions.move_to_end(key)
        return found

    def close(self, cookie_header: str) -> None:
        """End the session that a request names."""
        self._sessions.pop(cookie_parser(cookie_header).get(COOKIE, ""), None)


def session_cookie(value: str, *, secure: bool) -> str:
    """Return the ``Set-Cookie`` header of a session; of its end, if `value` is empty."""
    age = "" if value else "; Max-Age=0"
    return f"{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict{age}{'; Secure' if secure else ''}"
