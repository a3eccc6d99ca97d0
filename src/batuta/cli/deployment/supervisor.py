"""Process supervision: start programs, wait until they are ready, restart them, stop them."""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from batuta.errors import BatutaError
from batuta.private_files import PRIVATE_FOLDER, create_private
from batuta.service.client import tls_verification
from batuta.service.lifeline import LIFELINE_VARIABLE
from batuta.service.log_files import MB, bounded_log, last_line
from batuta.service.sockets import LISTEN_VARIABLE
from batuta.tls import Signature, signature_of

READY_TIMEOUT_S: Final = 180.0
"""How long a program may take to answer its first request. One that exits is noticed at once; on a
machine whose cores are asked for ten times over, a start takes a minute."""
STOP_TIMEOUT_S: Final = 15.0
"""A program that has not exited this long after SIGTERM is killed."""
GROUP_END_S: Final = 2.0
"""How long processes that an exited program started may take to notice that it is gone."""
MIN_RESTART_WAIT_S: Final = 0.5
MAX_RESTART_WAIT_S: Final = 30.0
STABLE_AFTER_S: Final = 60.0
"""A program that ran this long is restarted after the shortest wait again."""
POLL_S: Final = 0.05
MAX_LOG_BYTES: Final = 64 * MB
CHECK_INTERVAL_S: Final = 10.0
MAX_FAILED_CHECKS: Final = 3
"""A program that fails so many checks in a row is restarted."""
USAGE_ERROR: Final = 2


class ProgramError(BatutaError):
    """A program did not start, or cannot be started."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program to keep running.

    Parameters
    ----------
    name : str
        Also names its log, ``<name>.log``.
    command : tuple of str
        The program and its arguments.
    url : str
        The URL at which it answers.
    ready : callable
        Returns whether it answers.
    sock : socket or None
        A listening socket that it inherits.
    environment : mapping
        Added to the environment of this process.
    hidden : set of str
        Variables of the environment of this process that it does not have.
    folder : Path or None
        Its working folder; that of this process if None.
    works : callable or None
        Returns whether it still does its work, for a program that may stop doing it without
        exiting: then it is restarted.
    stop_order : int
        Those of a lower number are stopped before it, those of the same number at the same time.
    reads : tuple of Path
        Files that it reads again on SIGHUP: it is sent one when they change.
    """

    name: str
    command: tuple[str, ...]
    url: str
    ready: Callable[[], Awaitable[bool]]
    sock: socket.socket | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    folder: Path | None = None
    works: Callable[[], Awaitable[bool]] | None = None
    stop_order: int = 0
    reads: tuple[Path, ...] = ()


class Supervisor:
    """Keeps programs running until it is closed; opened by `supervising`.

    Each program runs in its own session, so that Ctrl-C reaches the supervisor alone, which
    stops them by their `Program.stop_order`. They inherit the read end of a pipe (their
    lifeline): if the supervisor is killed, its end closes and they exit.
    """

    def __init__(self, logs: Path, report: Callable[[str], None]) -> None:
        logs.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
        self._logs = logs
        self._report = report
        self._runners: list[_ProgramRunner] = []
        self._lifeline = os.pipe()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self, program: Program) -> None:
        """Start `program` and return when it is ready.

        Raises
        ------
        ProgramError
            If it exits or does not answer; the message ends with the last line of its log.
        """
        runner = _ProgramRunner(
            program, self._logs / f"{program.name}.log", self._lifeline[0], self._report
        )
        self._runners.append(runner)
        await runner.start()
        self._report(f"{program.name} is ready")
        runner.watch(self._fail)

    def process_id(self, name: str) -> int | None:
        """Return the process id of a program, or None if it does not run."""
        return next((one.process_id for one in self._runners if one.program.name == name), None)

    async def close(self) -> None:
        """Stop all programs, those of one `Program.stop_order` at once; each has its own bound.

        Raises
        ------
        ExceptionGroup
            Once all others are stopped, if some could not be.
        """
        failed: list[Exception] = []
        in_order = sorted(self._runners, key=_stop_order)
        for _, group in itertools.groupby(in_order, key=_stop_order):
            stops = (runner.stop() for runner in group)
            ends = await asyncio.gather(*stops, return_exceptions=True)
            failed += [each for each in ends if isinstance(each, Exception)]
        for descriptor in self._lifeline:
            os.close(descriptor)
        if failed:
            raise ExceptionGroup("programs that could not be stopped", failed)

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)


@contextlib.asynccontextmanager
async def supervising(logs: Path, report: Callable[[str], None]) -> AsyncIterator[Supervisor]:
    """Open a supervisor whose programs log into the folder `logs`.

    Parameters
    ----------
    report : callable
        Called with one line for each event in the life of a program.
    """
    supervisor = Supervisor(logs, report)
    try:
        yield supervisor
    finally:
        closing = asyncio.ensure_future(supervisor.close())
        # A second Ctrl-C cancels this task again; programs would be left behind if closing stopped.
        while not closing.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(closing)
        if not supervisor.failed.done():
            supervisor.failed.cancel()


class _ProgramRunner:
    """Runs one program, and restarts it whenever it exits."""

    def __init__(
        self, program: Program, log: Path, lifeline: int, report: Callable[[str], None]
    ) -> None:
        self.program = program
        self._log = log
        self._lifeline = lifeline
        self._report = report
        self._process: Process | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def process_id(self) -> int | None:
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def start(self) -> None:
        self._process = await self._spawn()
        await self._ready(self._process)

    def watch(self, on_failure: Callable[[BaseException], None]) -> None:
        def done(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                on_failure(error)

        self._watching = asyncio.create_task(self._restart_forever())
        self._watching.add_done_callback(done)

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            self._report(f"{self.program.name} did not exit within {STOP_TIMEOUT_S:g} s: killed")
            _kill_group(process.pid)
            await process.wait()
        await _end_group(process.pid)

    async def _restart_forever(self) -> None:
        wait_s = MIN_RESTART_WAIT_S
        while True:
            assert self._process is not None  # noqa: S101  `start` has set it
            since = time.monotonic()
            code = await self._wait_for_end(self._process)
            _kill_group(self._process.pid)
            if code == USAGE_ERROR:
                raise ProgramError(self._describe_exit(code))
            wait_s = MIN_RESTART_WAIT_S if time.monotonic() - since > STABLE_AFTER_S else wait_s
            self._report(f"{self._describe_exit(code)}; restarting in {wait_s:g} s")
            await asyncio.sleep(wait_s)
            wait_s = min(MAX_RESTART_WAIT_S, 2 * wait_s)
            self._process = await self._spawn()

    async def _wait_for_end(self, process: Process) -> int:
        """Return the exit code of `process`, ended here if it does not work any more."""
        checking = asyncio.create_task(self._end_if_it_does_not_work(process))
        looking = asyncio.create_task(self._tell_of_changed_files(process))
        try:
            async with bounded_log(self._log, MAX_LOG_BYTES):
                return await process.wait()
        finally:
            checking.cancel()
            looking.cancel()

    async def _tell_of_changed_files(self, process: Process) -> None:
        before = _signature(self.program.reads)
        while self.program.reads:
            await asyncio.sleep(CHECK_INTERVAL_S)
            found = _signature(self.program.reads)
            # While one is being replaced, there is none.
            if found is not None and found != before:
                before = found
                self._report(f"{self.program.name} is told of files that have changed")
                process.send_signal(signal.SIGHUP)

    async def _end_if_it_does_not_work(self, process: Process) -> None:
        works = self.program.works
        if works is None:
            return
        failures = 0
        while failures < MAX_FAILED_CHECKS:
            await asyncio.sleep(CHECK_INTERVAL_S)
            failures = 0 if await works() else failures + 1
        self._report(f"{self.program.name} runs, but does not do its work: restarting it")
        process.terminate()

    async def _spawn(self) -> Process:
        own = {name: value for name, value in os.environ.items() if name not in self.program.hidden}
        environment = {**own, **self.program.environment}
        environment[LIFELINE_VARIABLE] = str(self._lifeline)
        handed_over = [self._lifeline]
        if self.program.sock is not None:
            handed_over.append(self.program.sock.fileno())
            environment[LISTEN_VARIABLE] = str(self.program.sock.fileno())
        create_private(self._log)
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
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not await self.program.ready():
            if process.returncode is not None:
                raise ProgramError(self._describe_exit(process.returncode))
            if time.monotonic() > deadline:
                raise ProgramError(
                    f"{self.program.name} did not answer at {self.program.url} within "
                    f"{READY_TIMEOUT_S:g} s (see {self._log})"
                )
            await asyncio.sleep(POLL_S)

    def _describe_exit(self, code: int) -> str:
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        last = last_line(self._log)
        return f"{self.program.name} {how}" + (f": {last}" if last and code else "")


def _signature(files: Sequence[Path]) -> Signature | None:
    try:
        return signature_of(files)
    except OSError:
        return None


def _stop_order(runner: _ProgramRunner) -> int:
    return runner.program.stop_order


async def _end_group(leader: int) -> None:
    """Wait for what an exited program started, such as a fork server; kill what stays."""
    deadline = time.monotonic() + GROUP_END_S
    while _group_is_there(leader):
        if time.monotonic() > deadline:
            _kill_group(leader)
            return
        await asyncio.sleep(POLL_S)


def _group_is_there(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def _kill_group(leader: int) -> None:
    """Kill what an exited program left running: all of its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


async def answers_health(url: str) -> bool:
    """Return whether a service answers ``/health`` at `url`."""
    try:
        async with httpx.AsyncClient(
            trust_env=False, verify=tls_verification(url), timeout=2
        ) as client:
            return (await client.get(f"{url}/health")).is_success
    except httpx.HTTPError:
        return False


def python_program(*arguments: str) -> tuple[str, ...]:
    """Return the command that runs this Python with `arguments`."""
    return (sys.executable, *arguments)
