"""Messages from a worker to the main process, numbered so that each is handled once.

A worker sends its messages as events of dask, which arrive in order but late: those that are on
their way when a run ends would be lost. So the run then asks each worker for its last messages
once more, and drops those that have arrived by the other way already.
"""

import itertools
import os
import socket
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

from distributed import Worker

_MAX_IN_FLIGHT: Final = 4
"""Messages that may not have arrived yet when a run ends: they are returned again."""


class EventKind(StrEnum):
    """What a message of a worker is about."""

    LINES = "lines"
    MEMORY = "memory"
    TASKS = "tasks"
    FILE = "file"


class Outbox:
    """Sends what was collected since the last message; only in the event loop of its worker.

    Parameters
    ----------
    worker : Worker
        The sender.
    run_id : str
        The client of the run, which is also the topic that it subscribes to.
    kind : EventKind
        What messages are about.
    collect : callable
        Returns what there is to send, and forgets it; None when there is nothing.
    """

    def __init__(
        self,
        worker: Worker,
        run_id: str,
        kind: EventKind,
        collect: Callable[[], dict[str, Any] | None],
    ) -> None:
        self._worker = worker
        self._run_id = run_id
        self._kind = kind
        self._collect = collect
        self._numbers = itertools.count(1)
        self._recent: deque[dict[str, Any]] = deque(maxlen=_MAX_IN_FLIGHT)

    def send(self) -> None:
        """Send what there is, if anything."""
        message = self._next_message()
        if message is not None:
            self._recent.append(message)
            self._worker.log_event(self._run_id, message)

    def drain(self) -> list[dict[str, Any]]:
        """Return the messages sent last, which may be on their way, and what there is since."""
        message = self._next_message()
        return [*self._recent, *([] if message is None else [message])]

    def _next_message(self) -> dict[str, Any] | None:
        content = self._collect()
        if content is None:
            return None
        sender = {"host": socket.gethostname(), "pid": os.getpid()}
        return {"kind": self._kind.value, "number": next(self._numbers), **sender, **content}


class Deduplicator:
    """Recognizes messages of outboxes that have arrived already.

    The messages of an outbox arrive in order, by either way, so that the highest number is enough.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[str, str, int], int] = {}
        """The highest number that has arrived of each outbox."""

    def is_new(self, message: Any) -> bool:
        """Record a message; return whether it arrived for the first time."""
        outbox = (str(message["kind"]), str(message["host"]), int(message["pid"]))
        number = int(message["number"])
        if number <= self._last.get(outbox, 0):
            return False
        self._last[outbox] = number
        return True
