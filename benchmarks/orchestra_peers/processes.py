"""Processes of the systems: each in a session of its own, ended with all that it started."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
LOOPBACK: Final = "127.0.0.1"
START_S: Final = 60.0
STOP_S: Final = 20.0
POLL_S: Final = 0.05


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    try:
        return [int(sock.getsockname()[1]) for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def worker_command(name: str, *arguments: str) -> list[str]:
    """Return the command of the module `name` of ``workers``."""
    return [sys.executable, "-m", f"benchmarks.orchestra_peers.workers.{name}", *arguments]


def program(name: str) -> str:
    """Return the path of a program that a package installed beside this Python."""
    return str(Path(sys.executable).with_name(name))


@asynccontextmanager
async def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> AsyncIterator["Running"]:
    """Run a program while the block lasts; what it prints goes to `log`."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Running(process, log)
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_S)
    # The session is this program's own: what it left behind ends with it.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


class Running:
    """A program that was started."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    async def until(self, answers: Callable[[], Awaitable[bool]]) -> None:
        """Wait until it answers.

        Raises
        ------
        RuntimeError
            With the end of its log, if it ends, or does not answer in time.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_S
        while not await answers():
            if self._process.returncode is not None or loop.time() > deadline:
                lines = self._log.read_text(errors="replace").splitlines()[-20:]
                raise RuntimeError("\n".join([f"{self._log.stem} did not start:", *lines]))
            await asyncio.sleep(POLL_S)
