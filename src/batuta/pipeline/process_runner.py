"""Executes each run in a process of its own, forked from a server that has its pipeline loaded."""

import asyncio
import logging
import os
import shutil
import socket
from collections.abc import Callable, Container, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import psutil
from pydantic import ValidationError

from batuta.errors import BatutaError, one_line
from batuta.messaging import Progress
from batuta.pipeline.exit_status import describe_exit
from batuta.pipeline.messages import (
    MESSAGE_ADAPTER,
    Message,
    Outcome,
    ProgressUpdate,
    TilesChanged,
    TilesPlanned,
    WorkerStarted,
)
from batuta.pipeline.process_starter import CodeSource, Generation, ProcessStarter
from batuta.pipeline.retention import RetentionFolder, clean_up_work_dir
from batuta.pipeline.runner import RUN_VARIABLE, ProcessingRun, ProcessingTask
from batuta.pipeline.tile_board import TileBoard, TileBoards
from batuta.pipeline.warden import run_warden
from batuta.process_family import all_processes
from batuta.service.log_files import MB, bounded_log

LOG: Final = logging.getLogger(__name__)

WARDEN_EXIT_TIMEOUT_S: Final = 10.0
"""How long a warden may take to kill its worker and clean up, before it is killed too."""

DRAIN_TIMEOUT_S: Final = 1.0
"""How long to go on reading messages once the warden has exited."""

KILL_TIMEOUT_S: Final = 2.0
"""How long to wait for leftover processes that were killed."""

MAX_LINE_BYTES: Final = 2**20


@dataclass(frozen=True, kw_only=True)
class RunnerConfig:
    """What a `ProcessRunner` needs.

    Parameters
    ----------
    source : CodeSource
        The pipeline's code.
    folder : Path
        The service's folder: work folders, logs and profiles.
    sdb_url, token : str
        URL of the product database, and the token for it.
    max_log_bytes : int
        Size of the log of a processing, at most.
    """

    source: CodeSource
    folder: Path
    sdb_url: str
    token: str | None = None
    max_log_bytes: int = 64 * MB

    @property
    def retention(self) -> RetentionFolder:
        """Logs and profiles of the processings."""
        return RetentionFolder(self.folder)

    def work_dir(self, run: ProcessingRun) -> Path:
        """Return the work folder of a run."""
        return self.folder / "work" / run.run_id


class MalformedMessageError(BatutaError):
    """A process of a run has sent what is not a message; the run has failed."""


class ProcessRunner:
    """Executes each run in a process of its own; created by `open_process_runner`."""

    def __init__(self, config: RunnerConfig, starter: ProcessStarter) -> None:
        self.tiles = TileBoards(config.retention)
        """What is known of the tiles of its runs."""
        self._config = config
        self._starter = starter

    @property
    def code(self) -> str:
        """The version of the code that the next run is executed with."""
        return self._starter.generation.code.version

    @property
    def generation(self) -> Generation:
        """The code that the next run is executed with, and what it makes."""
        return self._starter.generation

    async def reload(self) -> Generation:
        """Load the code again: what runs goes on with the former, what starts has the new.

        Raises
        ------
        ConfigurationError
            If it cannot be loaded: the former code stays in use.
        """
        return await self._starter.reload()

    async def run(self, run: ProcessingRun, on_progress: Callable[[Progress], None]) -> Outcome:
        """Execute `run`; when cancelled, kill all the processes that it has started."""
        work_dir = self._config.work_dir(run)
        board = self.tiles.begin(run)
        try:
            work_dir.mkdir(mode=0o700)
            return await self._run(run, on_progress, board)
        except (OSError, EOFError) as exc:
            return Outcome(error=f"its process could not be started: {one_line(exc)}")
        except MalformedMessageError as exc:
            return Outcome(error=str(exc))
        finally:
            # The warden removes it, unless it was killed or failed to.
            if work_dir.exists():
                await run_to_end(asyncio.to_thread(_clean_up, work_dir, self._config.retention))
            await run_to_end(asyncio.to_thread(self._record_tiles, run))

    def _record_tiles(self, run: ProcessingRun) -> None:
        try:
            self.tiles.end(run)
        except OSError as exc:
            LOG.warning("run %s: its tiles could not be recorded: %s", run.run_id, exc)

    async def _run(
        self, run: ProcessingRun, on_progress: Callable[[Progress], None], board: TileBoard
    ) -> Outcome:
        log = self._config.retention.log(run.key)
        async with bounded_log(log, self._config.max_log_bytes):
            handle, generation = await self._start(run)
            try:
                await handle.follow(on_progress, board)
            finally:
                await run_to_end(handle.close())
        return handle.outcome().model_copy(update={"code": generation.code.version})

    async def _start(self, run: ProcessingRun) -> "tuple[_ProcessHandle, Generation]":
        ours, theirs = socket.socketpair()
        with theirs:
            starting = asyncio.ensure_future(
                self._starter.start(run_warden, partial(self._task, run), theirs, name=run.run_id)
            )
            # A thread cannot be cancelled: the warden will exist, whether somebody waits or not.
            try:
                process, generation = await asyncio.shield(starting)
            except asyncio.CancelledError:
                ours.close()  # the warden reads end of file, kills its worker and exits
                await self._starter.reap((await starting)[0])
                raise
            except BaseException:
                ours.close()
                raise
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_LINE_BYTES)
        return _ProcessHandle(process, reader, writer, self._starter), generation

    def _task(self, run: ProcessingRun, generation: Generation) -> ProcessingTask:
        return ProcessingTask(
            spec=generation.specs[run.product],
            run=run,
            sdb_url=self._config.sdb_url,
            token=self._config.token,
            work_dir=self._config.work_dir(run),
            log_path=self._config.retention.log(run.key),
            profiles=self._config.retention.profiles(run.run_id),
            code=generation.code if self._config.source.reload else None,
            code_version=generation.code.version or None,
        )


@contextmanager
def open_process_runner(config: RunnerConfig) -> Iterator[ProcessRunner]:
    """Open a runner, after cleaning up what a service that died has left.

    Parameters
    ----------
    config : RunnerConfig
        What it needs.

    Raises
    ------
    ConfigurationError
        If another process cannot import the pipeline.
    """
    folder = config.folder
    for each in (folder, folder / "logs"):
        each.mkdir(parents=True, exist_ok=True, mode=0o700)
    remove_stale_runs(folder / "work", config.retention)
    starter = ProcessStarter(config.source)
    try:
        yield ProcessRunner(config, starter)
    finally:
        starter.close()


def remove_stale_runs(work: Path, retention: RetentionFolder) -> None:
    """Kill the processes of the runs whose folders are in `work`, then clean up these folders."""
    work.mkdir(exist_ok=True, mode=0o700)
    runs = {folder.name for folder in work.iterdir()}
    # Killed first: a process that still ran could write in its folder while it is being removed.
    if runs:
        _kill_leftovers(runs)
    for run in runs:
        # The warden of a service that has just died may be doing the same: the folder is locked.
        _clean_up(work / run, retention)
        if (work / run).exists():
            shutil.rmtree(work / run)


def _clean_up(work_dir: Path, retention: RetentionFolder) -> None:
    try:
        clean_up_work_dir(work_dir, retention.profiles(work_dir.name))
    except OSError as exc:
        LOG.warning("run %s: the profile could not be retained: %s", work_dir.name, exc)


class _ProcessHandle:
    """A warden and its worker, seen from the service."""

    def __init__(
        self,
        process: BaseProcess,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        starter: ProcessStarter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._starter = starter
        self._worker: int | None = None
        self._outcome: Outcome | None = None
        self._exit_code: int | None = None
        self._exited = asyncio.Event()
        asyncio.get_running_loop().add_reader(process.sentinel, self._on_exit)

    async def follow(self, on_progress: Callable[[Progress], None], board: TileBoard) -> None:
        """Process their messages until both have exited."""
        reading = asyncio.create_task(self._read(on_progress, board))
        exited = asyncio.create_task(self._exited.wait())
        try:
            await asyncio.wait({reading, exited}, return_when=asyncio.FIRST_COMPLETED)
            # All that was sent before the warden's exit is in the socket's buffer and is read
            # to the end of file. That end does not come while a worker whose warden was killed
            # still holds the socket (without PDEATHSIG, as on macOS): hence the timeout.
            await asyncio.wait({reading}, timeout=DRAIN_TIMEOUT_S)
        finally:
            exited.cancel()
            reading.cancel()
            await asyncio.wait({exited, reading})
        if not reading.cancelled():
            reading.result()

    async def close(self) -> None:
        """Stop both, and wait until nothing of them is left."""
        self._writer.close()  # the order to stop: the warden reads end of file
        try:
            async with asyncio.timeout(WARDEN_EXIT_TIMEOUT_S):
                await self._exited.wait()
        except TimeoutError:
            self._process.kill()
            await self._exited.wait()
        # A warden that reported an exit code has reaped all descendants; a killed one has not.
        if self._exit_code is None and self._worker is not None:
            await asyncio.to_thread(_kill_leftovers, {self._process.name}, self._worker)
        await self._starter.reap(self._process)

    def outcome(self) -> Outcome:
        """Return the outcome of the run."""
        if self._outcome is not None:
            return self._outcome
        if self._exit_code is None:
            return Outcome(error=f"lost: warden process {describe_exit(self._process.exitcode)}")
        return Outcome(error=f"{describe_exit(self._exit_code)} before its product was made")

    async def _read(self, on_progress: Callable[[Progress], None], board: TileBoard) -> None:
        while line := await self._next_line():
            message = _parse(line)
            if isinstance(message, ProgressUpdate):
                on_progress(Progress(done=message.done, total=message.total))
            elif isinstance(message, TilesPlanned | TilesChanged):
                _record(message, board)
            elif isinstance(message, Outcome):
                self._outcome = message
            elif isinstance(message, WorkerStarted):
                self._worker = message.pid
            else:
                self._exit_code = message.exit_code
                return

    async def _next_line(self) -> bytes:
        try:
            return await self._reader.readline()
        except ValueError as exc:
            raise MalformedMessageError(
                f"its process sent a message of more than {MAX_LINE_BYTES} bytes"
            ) from exc

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process.sentinel)
        self._exited.set()


def _parse(line: bytes) -> Message:
    try:
        return MESSAGE_ADAPTER.validate_json(line)
    except ValidationError as exc:
        # A function may write to any descriptor of its process.
        raise MalformedMessageError(
            f"its process sent what is not a message: {line[:80]!r}"
        ) from exc


def _record(message: TilesPlanned | TilesChanged, board: TileBoard) -> None:
    try:
        if isinstance(message, TilesPlanned):
            board.plan(message)
        else:
            board.change(message)
    except ValueError as exc:
        raise MalformedMessageError(f"its process sent what is no message: {exc}") from exc


def _kill_leftovers(runs: Container[str], leader: int | None = None) -> None:
    """Kill all processes of `runs`, and of the session that the worker `leader` has led.

    The environment finds those that left the session, the session those that cleared their
    environment.
    """
    killed = []
    for process in all_processes():
        # Processes of other users hide their environment; others exit meanwhile.
        with suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.getsid(process.pid) == leader or process.environ().get(RUN_VARIABLE) in runs:
                LOG.warning("killed process %d, left over from a run that has ended", process.pid)
                process.kill()
                killed.append(process)
    psutil.wait_procs(killed, timeout=KILL_TIMEOUT_S)


async def run_to_end(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end, however often the caller is cancelled; then raise the cancellation.

    One shield is not enough: a request to cancel, the time limit and the stop of the service may
    each cancel the caller while it cleans up.
    """
    task = asyncio.create_task(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError
