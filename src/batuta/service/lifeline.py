"""Terminates a process when the one that started it dies, even by SIGKILL.

The parent keeps the write end of a pipe open and never writes to it. When the parent dies, the
kernel closes that end, and the read here returns end of file. Unlike PDEATHSIG this works on every
Unix. It relies on no other process inheriting the write end, which Python makes non-inheritable.
"""

import os
import signal
import threading
from collections.abc import Callable
from typing import Final

LIFELINE_VARIABLE: Final = "BATUTA_LIFELINE_FD"
"""Environment variable: the file descriptor of the pipe's read end."""


def watch_lifeline(end: Callable[[], None] | None = None) -> None:
    """Call `end` when the parent dies; by default send SIGTERM to this process.

    Do nothing if there is no lifeline.
    """
    number = os.environ.pop(LIFELINE_VARIABLE, None)
    if number is not None:
        # For this process alone: a child that found the variable would read from whatever file
        # that number means there.
        os.set_inheritable(int(number), False)
        threading.Thread(
            target=_wait, args=(int(number), end or _terminate_self), daemon=True, name="lifeline"
        ).start()


def _wait(descriptor: int, end: Callable[[], None]) -> None:
    while os.read(descriptor, 1):
        pass
    end()


def _terminate_self() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
