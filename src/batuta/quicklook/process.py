"""Starts the processes that draw, and ends them in time."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Final

from batuta.errors import BatutaError, one_line, printable, shortened
from batuta.quicklook.kinds import Kind
from batuta.quicklook.limits import (
    MAX_MEMORY_BYTES,
    MAX_PICTURE_BYTES,
    MAX_REASON_LENGTH,
    MAX_TIME_S,
    CannotDrawError,
    CannotDrawNowError,
)

PICTURE: Final = b"P"
REASON: Final = b"R"
"""How what a process returns begins."""
_KEPT_VARIABLES: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG")
"""No token and no credential is in the environment of a process that reads an untrusted file."""
_ENDED_FROM_OUTSIDE: Final = (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)


class DrawingInterruptedError(BatutaError):
    """A drawing was ended from outside; it may be started again."""


class Drawer:
    """Draws files, each in a process of its own.

    Parameters
    ----------
    max_time_s : float
        A process that takes longer is killed, in seconds.
    """

    def __init__(self, max_time_s: float = MAX_TIME_S) -> None:
        self._max_time_s = max_time_s

    async def draw(self, kind: Kind, path: Path) -> bytes:
        """Return the quicklook of the file at `path`, which is absolute, as PNG.

        Raises
        ------
        CannotDrawError
            If it cannot be drawn within its bounds.
        CannotDrawNowError
            If that may be due to others: it took too long, or the system had no memory left.
        DrawingInterruptedError
            If the process was ended by somebody else.
        """
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "batuta.quicklook", str(os.getpid())),
            *(kind.module, str(path)),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=DEVNULL,
            cwd="/",
            env=_environment(),
        )
        try:
            answer = await asyncio.wait_for(_answer(process), self._max_time_s)
        except TimeoutError:
            raise CannotDrawNowError(f"drawing it took more than {self._max_time_s:g} s") from None
        finally:
            await _end(process)
        return _picture(answer, process.returncode or 0)


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return kept | threads | {"PYTHONDONTWRITEBYTECODE": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}


async def _answer(process: Process) -> bytes:
    if process.stdout is None:  # it was asked for above
        return b""
    answer = bytearray()
    while piece := await process.stdout.read(2**16):
        answer += piece
        if len(answer) > MAX_PICTURE_BYTES and process.returncode is None:
            # What is left in the pipe is read: before its end, the process is not waited for.
            process.kill()
    await process.wait()
    return bytes(answer)


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
        # Its end is reaped, whatever becomes of who waits for it; what is left in the pipe is read
        # first, without which a process that was writing is waited for in vain.
        await asyncio.shield(_answer(process))


def _picture(answer: bytes, code: int) -> bytes:
    kind, content = answer[:1], answer[1:]
    if len(answer) > MAX_PICTURE_BYTES:
        raise CannotDrawError(f"its picture is larger than {MAX_PICTURE_BYTES} bytes")
    if code == 0 and kind == PICTURE:
        return content
    if code == 0 and kind == REASON:
        # It may quote the file: PostgreSQL keeps no text with a zero byte.
        reason = printable(one_line(content.decode(errors="replace")))
        raise CannotDrawError(shortened(reason, MAX_REASON_LENGTH))
    if code in _ENDED_FROM_OUTSIDE:
        raise DrawingInterruptedError(f"its drawing was ended by {signal.Signals(-code).name}")
    memory = f"it may use {MAX_MEMORY_BYTES // 2**20} MiB of memory"
    if code < 0:
        name = signal.Signals(-code).name
        error = CannotDrawNowError if code == -signal.SIGKILL else CannotDrawError
        raise error(f"its drawing was ended by {name} ({memory})")
    raise CannotDrawError(f"its drawing ended with exit code {code} ({memory})")
