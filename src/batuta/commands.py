"""Commands that are run to their end, in a given time."""

import asyncio
import os
import signal
import tempfile
from asyncio.subprocess import DEVNULL
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, NamedTuple


class CommandEnd(NamedTuple):
    """How a command has ended, and what it printed; bytes that are no UTF-8 are replaced."""

    exit_code: int
    output: str
    errors: str


async def run_command(command: Sequence[str], timeout_s: float) -> CommandEnd:
    """Run a command without an input, until it ends.

    Its session is its own: when it is not waited for any longer, what it started there is killed.
    What it left in another session, and holds its output open, is not waited for.

    Raises
    ------
    OSError
        If it cannot be started.
    TimeoutError
        If it has not ended in time, in seconds.
    """
    with _captured() as output, _captured() as errors:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=output, stderr=errors, start_new_session=True
        )
        try:
            async with asyncio.timeout(timeout_s):
                code = await process.wait()
        except (TimeoutError, asyncio.CancelledError):
            with suppress(ProcessLookupError):  # all have ended
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
            raise
        return CommandEnd(code, _text_of(output), _text_of(errors))


def _captured() -> IO[bytes]:
    """Return a file that a command prints to: in memory where the system can (Linux).

    Unlike a pipe, it is read once the command has ended, whoever holds it open; and no full disk
    cuts it short.
    """
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("captured"), "w+b")
    return tempfile.TemporaryFile()


def _text_of(printed: IO[bytes]) -> str:
    printed.seek(0)
    return printed.read().decode(errors="replace")
