"""Calls of the sdb, repeated with growing waits while it cannot be reached."""

import logging
import time
from collections.abc import Callable
from typing import Final, TypeVar

import httpx

from batuta.sdb.download import DOWNLOAD_ERRORS
from batuta.service.client import ServiceError
from batuta.tls import is_refused_certificate

LOG: Final = logging.getLogger(__name__)

MIN_WAIT_S: Final = 0.1
MAX_WAIT_S: Final = 5.0

_TRANSIENT_STATUSES: Final = frozenset({502, 503, 504})

_TRANSIENT_ERRORS: Final = (
    httpx.NetworkError,
    httpx.TimeoutException,
    httpx.RemoteProtocolError,
    *DOWNLOAD_ERRORS,
)

T = TypeVar("T")


class UploadInterruptedError(ServiceError):
    """An upload was interrupted, and goes on with the next call."""


class GivenUpError(ServiceError):
    """The sdb could not be reached for as long as it was tried."""


class Retries:
    """Repeats calls while the sdb cannot be reached.

    Parameters
    ----------
    retry_for_s : float
        How long, in seconds.
    """

    def __init__(self, retry_for_s: float) -> None:
        self._retry_for_s = retry_for_s

    def run(self, call: Callable[[], T], position: Callable[[], int] | None = None) -> T:
        """Return what `call` returns.

        Parameters
        ----------
        call : callable
            What is repeated.
        position : callable, optional
            Returns how far its calls have come together; each time that is further, it may be
            repeated for as long again.

        Raises
        ------
        GivenUpError
            If the sdb cannot be reached in time.
        ServiceError
            If it is refused.
        """
        deadline = time.monotonic() + self._retry_for_s
        wait_s, reached = MIN_WAIT_S, -1
        while True:
            try:
                return call()
            except ServiceError as exc:
                if not is_transient(exc):
                    raise
                if position is not None and position() > reached:
                    reached, wait_s = position(), MIN_WAIT_S
                    deadline = time.monotonic() + self._retry_for_s
                if time.monotonic() + wait_s > deadline:
                    error = GivenUpError(f"{exc} (retried for {self._retry_for_s:g} s)", exc.status)
                    error.unreachable = exc.unreachable
                    raise error from exc
                LOG.info("%s; retrying in %.1f s", exc, wait_s)
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, MAX_WAIT_S)


def is_transient(exc: ServiceError) -> bool:
    """Return whether the same call may succeed later."""
    if is_refused_certificate(exc):
        return False
    if isinstance(exc, UploadInterruptedError) or exc.status in _TRANSIENT_STATUSES:
        return True
    return isinstance(exc.__cause__, _TRANSIENT_ERRORS)
