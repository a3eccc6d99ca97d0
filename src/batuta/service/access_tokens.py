"""The tokens that a service accepts: the shared one, and those of a file that may change."""

import asyncio
import hmac
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from batuta.errors import ConfigurationError
from batuta.service.scopes import ALL_SCOPES, Scope, in_order, included
from batuta.service.token_file import TokenEntry, digest_of, read_tokens

LOG: Final = logging.getLogger(__name__)

POLL_S: Final = 1.0
"""How often the file is looked at."""
RETRY_S: Final = 10.0
"""When a file that was not accepted is read again although it has not changed: what could not be
read may be readable, and to parse a long one each second would take a tenth of a processor."""
MAX_PROBLEMS: Final = 3
"""Mistakes of the file that are told."""

_Signature = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allows to whoever shows it.

    Attributes
    ----------
    name : str or None
        Whose token it is; None for the shared one, and where none is needed.
    scopes : tuple of Scope
        What it was given out for.
    expires : float
        When it ends, in seconds since 1970.
    """

    name: str | None
    scopes: tuple[Scope, ...]
    expires: float = math.inf
    digest: bytes = field(default=b"", repr=False)
    included: frozenset[Scope] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "included", included(self.scopes))

    def allows(self, needed: frozenset[Scope]) -> bool:
        """Return whether it has one of the scopes that are needed."""
        return not self.included.isdisjoint(needed)

    @property
    def is_unrestricted(self) -> bool:
        """Whether it allows everything."""
        return self.included == ALL_SCOPES

    @property
    def allowed(self) -> list[Scope]:
        """All that it allows, from the least on."""
        return in_order(self.included)


UNRESTRICTED: Final = Grant(None, tuple(Scope))
"""What everybody may who reaches a service that requires no token."""


class AccessTokens:
    """The tokens that a service accepts, found by their digests.

    A digest is looked up as it is, however long that takes: what a caller can choose is the token,
    and the time tells nothing of a token whose digest is like the right one. What is found is
    compared once more in constant time, so that this need not be true.

    Parameters
    ----------
    shared : str, optional
        The token of all services of an orchestra, which may do everything. Without one, nothing is
        required of callers.
    path : Path, optional
        The file of named tokens. A missing one has none.
    clock : callable
        Returns seconds since 1970.

    Attributes
    ----------
    path : Path or None
        As given.
    problem : str or None
        Why the file as it is now is not used, in one line.
    """

    def __init__(
        self,
        shared: str | None = None,
        path: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._shared = None if shared is None else _grant_of_all(shared)
        self.path = path
        self._clock = clock
        self._named: Mapping[str, TokenEntry] = {}
        self._grants: Mapping[bytes, Grant] = {}
        self._signature: _Signature | None = None
        self._refused_at: float | None = None
        self.problem: str | None = None
        self._accept({})
        self.refresh()

    @property
    def required(self) -> bool:
        """Whether callers need a token."""
        return self._shared is not None

    def find(self, token: bytes) -> Grant | None:
        """Return what a token allows; None if it is unknown or has expired."""
        digest = digest_of(token)
        grant = self._grants.get(digest)
        if grant is None or not hmac.compare_digest(grant.digest, digest):
            return None
        return grant if self._clock() < grant.expires else None

    def expiry_of(self, token: bytes) -> str | None:
        """Return when a token that was not found has expired; None if it is unknown."""
        grant = self._grants.get(digest_of(token))
        if grant is None or grant.expires == math.inf:
            return None
        moment = datetime.fromtimestamp(grant.expires, UTC)
        return f"the token of {grant.name} has expired at {moment:%FT%TZ}"

    def checks(self) -> dict[str, bool | str]:
        """Return the health of the file, where tokens are required."""
        return {"tokens": self.problem or True} if self.required and self.path else {}

    async def watch(self) -> None:
        """Notice changes of the file until cancelled."""
        if self.path is None:
            return
        while True:
            await asyncio.sleep(POLL_S)
            # In a thread: a file on a network may take its time.
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Read the file if it has changed; one with a mistake leaves in force what was read last.

        A file that is gone has no tokens: who removes it revokes all.
        """
        if self.path is None:
            return
        try:
            # Looked at before it is read: what is written meanwhile is read the next time.
            signature = _signature_of(self.path)
            if signature == self._signature and not self._is_retried:
                return
            self._signature = signature
            named = read_tokens(self.path)
        except ConfigurationError as exc:
            self._refuse(exc.problems)
        except OSError as exc:
            self._refuse([f"{self.path}: cannot be read: {exc.strerror}"])
        else:
            self._refused_at = None
            self._accept(named)

    @property
    def _is_retried(self) -> bool:
        if self._refused_at is None:
            return False
        # The clock may have been set back since.
        return not 0 <= self._clock() - self._refused_at < RETRY_S

    def _refuse(self, problems: Sequence[str]) -> None:
        more = len(problems) - MAX_PROBLEMS
        told = [*problems[:MAX_PROBLEMS], *([f"and {more} more"] if more > 0 else [])]
        problem = "; ".join(told)
        self._refused_at = self._clock()
        if problem != self.problem:
            count = len(self._named)
            LOG.error("tokens: %s; in force: %s read before", problem, count or "none, as none was")
        self.problem = problem

    def _accept(self, named: Mapping[str, TokenEntry]) -> None:
        grants = [_grant_of(name, entry) for name, entry in named.items()]
        # The shared one last: no line of a file takes anything from it.
        grants += [self._shared] if self._shared is not None else []
        if named and not self.required:
            LOG.warning("tokens: %s: without --token nothing is required of callers", self.path)
        changes = list(_changes(self._named, named))
        self._named, self._grants = named, {each.digest: each for each in grants}
        if changes or self.problem is not None:
            LOG.info("tokens: %s", "; ".join(changes) or "as before")
        self.problem = None


def _grant_of_all(token: str) -> Grant:
    return Grant(None, tuple(ALL_SCOPES), digest=digest_of(token.encode()))


def _grant_of(name: str, entry: TokenEntry) -> Grant:
    expires = math.inf if entry.expires is None else entry.expires.timestamp()
    return Grant(name, entry.scopes, expires, bytes.fromhex(entry.sha256_of_token))


def _changes(old: Mapping[str, TokenEntry], new: Mapping[str, TokenEntry]) -> Iterable[str]:
    """Yield what has changed, without the digests."""
    for name in {**old, **new}:
        if name not in new:
            yield f"{name} revoked"
        elif old.get(name) != new[name]:
            until = f" until {new[name].expires:%FT%TZ}" if new[name].expires else ""
            yield f"{name} may {', '.join(new[name].scopes)}{until}"


def _signature_of(path: Path) -> _Signature:
    """Return what changes with a file, its content or who may read it."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return _MISSING
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


_MISSING: Final[_Signature] = (0, 0, 0, 0)
