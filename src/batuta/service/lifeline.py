"""Ending with whoever started us, even when it is killed and can say nothing.

The starter keeps the writing end of a pipe open and never writes. When it dies, the system
closes that end, and the reading end, here, is at its end too.
"""

import os
import signal
import threading
from collections.abc import Callable
from typing import Final

LIFELINE_VARIABLE: Final = "BATUTA_LIFELINE_FD"
"""Environment variable: the file descriptor of the pipe's reading end."""


def watch_lifeline(end: Callable[[], None] | None = None) -> None:
    """Call `end`, by default SIGTERM to this process, when the starter dies.

    Does nothing where there is no lifeline.
    """
    number = os.environ.pop(LIFELINE_VARIABLE, None)
    if number is not None:
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
