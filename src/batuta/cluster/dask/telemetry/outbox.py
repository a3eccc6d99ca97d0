"""What a worker tells the main process, a few times a second: numbered, so that each comes once."""

import itertools
import os
import socket
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

from distributed import Worker

_ON_THEIR_WAY: Final = 4
"""Messages that may not have come yet when a run ends: they are asked for again."""


class Told(StrEnum):
    """What workers tell."""

    LINES = "lines"
    MEMORY = "memory"
    TASKS = "tasks"
    FILE = "file"


class Outbox:
    """Sends what was collected since the last time.

    Parameters
    ----------
    worker : Worker
        That tells.
    run : str
        The client of the run: the topic that it listens to.
    told : Told
        What is told.
    collect : callable
        Gives what there is to tell, and forgets it; None when there is nothing.
    """

    def __init__(
        self, worker: Worker, run: str, told: Told, collect: Callable[[], dict[str, Any] | None]
    ) -> None:
        self._worker = worker
        self._run = run
        self._told = told
        self._collect = collect
        self._numbers = itertools.count(1)
        self._sent: deque[dict[str, Any]] = deque(maxlen=_ON_THEIR_WAY)

    def send(self) -> None:
        """Send what there is."""
        message = self._next()
        if message is not None:
            self._sent.append(message)
            self._worker.log_event(self._run, message)

    def take_last(self) -> list[dict[str, Any]]:
        """Return the messages that were sent last, and one of what there is since."""
        message = self._next()
        return [*self._sent, *([] if message is None else [message])]

    def _next(self) -> dict[str, Any] | None:
        content = self._collect()
        if content is None:
            return None
        who = {"host": socket.gethostname(), "pid": os.getpid()}
        return {"told": self._told.value, "number": next(self._numbers), **who, **content}


class OnlyNew:
    """Tells messages that have come already from those that are new."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str, int], int] = {}
        """The number of the last message of each outbox."""

    def is_new(self, message: Any) -> bool:
        """Whether a message of an outbox has not come before."""
        who = (str(message["told"]), str(message["host"]), int(message["pid"]))
        number = int(message["number"])
        if number <= self._last.get(who, 0):
            return False
        self._last[who] = number
        return True
