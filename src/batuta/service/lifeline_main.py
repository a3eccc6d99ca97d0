"""Runs a foreign program that must not outlive its parent, such as a NATS server.

``python -m batuta.service.lifeline_main PROGRAM ARGUMENTS...``: terminates the program on
SIGTERM or SIGINT, or when the pipe of ``BATUTA_LIFELINE_FD`` closes. SIGHUP is passed on. On Linux
the program is killed when this process is.
"""

import os
import signal
import subprocess
import sys
from functools import partial
from types import FrameType

from batuta.process_family import die_with_parent
from batuta.service.lifeline import watch_lifeline


def main(command: list[str]) -> int:
    """Run `command` to its end and return its exit code."""
    # Blocked until the handlers below are installed: a signal between the fork and that moment
    # would end this process alone and orphan the program. The mask survives exec, so the child
    # unblocks the signals for itself.
    stop_signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)
    unblock = partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, stop_signals)
    guard = os.getpid()

    def prepare() -> None:
        # A guard that is killed, with the one that would notice it, leaves nobody to end it.
        die_with_parent(guard)
        unblock()

    with subprocess.Popen(command, preexec_fn=prepare) as program:  # noqa: PLW1509  no thread yet

        def end(_number: int, _frame: FrameType | None) -> None:
            program.terminate()

        def pass_on(number: int, _frame: FrameType | None) -> None:
            program.send_signal(number)

        signal.signal(signal.SIGHUP, pass_on)
        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
        unblock()
        watch_lifeline()
        return _exit_alike(program.wait())


def _exit_alike(code: int) -> int:
    """Return an exit code; if a signal killed the program, die of the same signal."""
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
