"""Runs a foreign program that must not outlive whoever started it.

``python -m batuta.service.lifeline_main PROGRAM ARGUMENTS...``: ends the program when told to
(SIGTERM, SIGINT), or when the pipe of ``BATUTA_LIFELINE_FD`` ends.
"""

import os
import signal
import subprocess
import sys
from functools import partial
from types import FrameType

from batuta.service.lifeline import watch_lifeline


def main(command: list[str]) -> int:
    """Run `command` to its end; returns its exit code."""
    # A signal that comes while the program starts must find it: it is kept back until then.
    told_to_end = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, told_to_end)
    allowed = partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, told_to_end)
    with subprocess.Popen(command, preexec_fn=allowed) as program:  # noqa: PLW1509  no thread yet

        def end(_number: int, _frame: FrameType | None) -> None:
            program.terminate()

        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
        allowed()
        watch_lifeline()
        return _end_likewise(program.wait())


def _end_likewise(code: int) -> int:
    """Return an exit code; of a program that a signal has killed, die of the same."""
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
