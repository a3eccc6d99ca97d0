"""Keeping programs running on this machine: started, ready, started again, ended."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from batuta.errors import BatutaError
from batuta.service.client import tls_for
from batuta.service.lifeline import LIFELINE_VARIABLE
from batuta.service.sockets import LISTEN_VARIABLE

READY_S: Final = 60.0
"""A program that does not answer by then has not started, in seconds."""
GRACE_S: Final = 15.0
"""A program told to end that has not by then is killed, in seconds."""
AGAIN_FIRST_S: Final = 0.5
AGAIN_MOST_S: Final = 30.0
STEADY_S: Final = 60.0
"""A program that ran so long starts its waits afresh, in seconds."""
POLL_S: Final = 0.05
WRONG_USE: Final = 2


class ProgramError(BatutaError):
    """A program did not start, or cannot."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program to keep running.

    Parameters
    ----------
    name : str
        Of its log too: ``<name>.log``.
    command : tuple of str
        The program and its arguments.
    url : str
        Where it answers.
    ready : callable
        Tells whether it answers.
    sock : socket or None
        Handed over to it, listening already.
    environment : mapping
        Added to this process's.
    folder : Path or None
        Where it runs; None: here.
    """

    name: str
    command: tuple[str, ...]
    url: str
    ready: Callable[[], Awaitable[bool]]
    sock: socket.socket | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


class Supervisor:
    """Keeps programs running until it is closed; made by `supervising`.

    Each program runs in a session of its own, so that Ctrl-C reaches the supervisor alone,
    which ends them in order, the last started first. They hold a lifeline: were the
    supervisor killed, they end by themselves.
    """

    def __init__(self, logs: Path, tell: Callable[[str], None]) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._tell = tell
        self._keepers: list[_Keeper] = []
        self._lifeline = os.pipe()
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self, program: Program) -> None:
        """Start `program` and return when it is ready.

        Raises
        ------
        ProgramError
            If it ends, or does not answer; with the last line that it wrote.
        """
        keeper = _Keeper(program, self._logs / f"{program.name}.log", self._lifeline[0], self._tell)
        self._keepers.append(keeper)
        await keeper.start()
        self._tell(f"{program.name} is ready")
        keeper.keep(self._break)

    def process_id(self, name: str) -> int | None:
        """Process id of a program, where it runs."""
        return next((one.process_id for one in self._keepers if one.program.name == name), None)

    async def close(self) -> None:
        """End all programs, the last started first."""
        for keeper in reversed(self._keepers):
            await keeper.end()
        for descriptor in self._lifeline:
            os.close(descriptor)

    def _break(self, error: BaseException) -> None:
        if not self.broken.done():
            self.broken.set_exception(error)


@contextlib.asynccontextmanager
async def supervising(logs: Path, tell: Callable[[str], None]) -> AsyncIterator[Supervisor]:
    """Open a supervisor whose programs log into the folder `logs`.

    Parameters
    ----------
    tell : callable
        Told, one line at a time, what happens to the programs.
    """
    supervisor = Supervisor(logs, tell)
    try:
        yield supervisor
    finally:
        closing = asyncio.ensure_future(supervisor.close())
        # A second Ctrl-C must not leave programs behind.
        while not closing.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(closing)
        if not supervisor.broken.done():
            supervisor.broken.cancel()


class _Keeper:
    """Keeps one program running."""

    def __init__(
        self, program: Program, log: Path, lifeline: int, tell: Callable[[str], None]
    ) -> None:
        self.program = program
        self._log = log
        self._lifeline = lifeline
        self._tell = tell
        self._process: Process | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def process_id(self) -> int | None:
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def start(self) -> None:
        self._process = await self._spawn()
        await self._ready(self._process)

    def keep(self, on_broken: Callable[[BaseException], None]) -> None:
        def done(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                on_broken(error)

        self._keeping = asyncio.create_task(self._keep())
        self._keeping.add_done_callback(done)

    async def end(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(GRACE_S):
                await process.wait()
        except TimeoutError:
            self._tell(f"{self.program.name} does not end within {GRACE_S:g} s: killed")
            _kill_group(process.pid)
            await process.wait()

    async def _keep(self) -> None:
        wait_s = AGAIN_FIRST_S
        while True:
            assert self._process is not None  # noqa: S101  `start` has set it
            since = time.monotonic()
            code = await self._process.wait()
            _kill_group(self._process.pid)
            if code == WRONG_USE:
                raise ProgramError(self._ended(code))
            wait_s = AGAIN_FIRST_S if time.monotonic() - since > STEADY_S else wait_s
            self._tell(f"{self._ended(code)}; started again in {wait_s:g} s")
            await asyncio.sleep(wait_s)
            wait_s = min(AGAIN_MOST_S, 2 * wait_s)
            self._process = await self._spawn()

    async def _spawn(self) -> Process:
        environment = {**os.environ, **self.program.environment}
        environment[LIFELINE_VARIABLE] = str(self._lifeline)
        handed_over = [self._lifeline]
        if self.program.sock is not None:
            handed_over.append(self.program.sock.fileno())
            environment[LISTEN_VARIABLE] = str(self.program.sock.fileno())
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self.program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self.program.folder,
                pass_fds=handed_over,
                start_new_session=True,
            )

    async def _ready(self, process: Process) -> None:
        deadline = time.monotonic() + READY_S
        while not await self.program.ready():
            if process.returncode is not None:
                raise ProgramError(self._ended(process.returncode))
            if time.monotonic() > deadline:
                raise ProgramError(
                    f"{self.program.name} does not answer at {self.program.url} after "
                    f"{READY_S:g} s (see {self._log})"
                )
            await asyncio.sleep(POLL_S)

    def _ended(self, code: int) -> str:
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        last = next((line for line in reversed(lines) if line.strip()), "")
        return f"{self.program.name} {how}" + (f": {last.strip()}" if last and code else "")


def _kill_group(leader: int) -> None:
    """Kill what a program that was killed has left behind; each has a session of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


async def answers_health(url: str) -> bool:
    """Tell whether a service answers ``/health`` at `url`."""
    try:
        async with httpx.AsyncClient(trust_env=False, verify=tls_for(url), timeout=2) as client:
            return (await client.get(f"{url}/health")).is_success
    except httpx.HTTPError:
        return False


def python_program(*arguments: str) -> tuple[str, ...]:
    """Command that runs this Python with `arguments`."""
    return (sys.executable, *arguments)
