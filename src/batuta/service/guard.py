"""Runs a foreign program that must not outlive whoever started it.

``python -m batuta.service.guard PROGRAM ARGUMENTS...``: ends the program when told to
(SIGTERM, SIGINT), or when the pipe of ``BATUTA_LIFELINE_FD`` ends.
"""

import signal
import subprocess
import sys
from types import FrameType

from batuta.service.lifeline import watch_lifeline


def main(command: list[str]) -> int:
    """Run `command` to its end; returns its exit code."""
    with subprocess.Popen(command) as program:

        def end(_number: int, _frame: FrameType | None) -> None:
            program.terminate()

        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
        watch_lifeline()
        return program.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
