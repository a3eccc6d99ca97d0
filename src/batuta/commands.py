"""Commands that are run to their end, in a given time."""

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple


class CommandEnd(NamedTuple):
    """How a command has ended, and what it printed; bytes that are no UTF-8 are replaced."""

    exit_code: int
    output: str
    errors: str


async def run_command(command: Sequence[str], timeout_s: float) -> CommandEnd:
    """Run a command without an input.

    Its session is its own: if it is not waited for any longer, all that it started is killed, as
    those that a wrapper script runs would hold its output open for as long as they live.

    Raises
    ------
    OSError
        If it cannot be started.
    TimeoutError
        If it has not ended in time, in seconds.
    """
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, errors = await process.communicate()
    except (TimeoutError, asyncio.CancelledError):
        with suppress(ProcessLookupError):  # all have ended
            os.killpg(process.pid, signal.SIGKILL)
        # What is left in its pipes is read: before that, its end is not told.
        await asyncio.shield(process.communicate())
        raise
    return CommandEnd(
        process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace")
    )
