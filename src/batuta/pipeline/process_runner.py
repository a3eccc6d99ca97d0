"""Each processing in a process of its own, forked from one that has its pipeline loaded."""

import asyncio
import json
import logging
import multiprocessing
import os
import pickle
import shutil
import socket
import sys
from collections.abc import Callable, Container, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import psutil

from batuta.errors import ConfigurationError
from batuta.messaging import Progress
from batuta.pipeline.declaration import ProductSpec
from batuta.pipeline.exit_status import describe_exit
from batuta.pipeline.messages import MESSAGE_ADAPTER, Outcome, ProgressUpdate, WorkerStarted
from batuta.pipeline.retention import RetentionFolder, clean_up_work_dir
from batuta.pipeline.runner import RUN_VARIABLE, ProcessingRun, ProcessingTask
from batuta.pipeline.warden import run_warden

LOG: Final = logging.getLogger(__name__)

PRELOADED: Final = "batuta.pipeline.preload"
PRELOAD_VARIABLE: Final = "BATUTA_PIPELINE_PRELOAD"

WARDEN_EXIT_TIMEOUT_S: Final = 10.0
"""How long a warden may take to end what it keeps, before it is killed too, in seconds."""

DRAIN_TIMEOUT_S: Final = 1.0

KILL_TIMEOUT_S: Final = 2.0

MAX_LINE_BYTES: Final = 2**20


@dataclass(frozen=True, kw_only=True)
class RunnerConfig:
    """Where processings work, and with what.

    Parameters
    ----------
    specs : mapping
        What can be made, by name.
    folder : Path
        Holds their work folders, and what is handle of them.
    sdb_url, token : str
        The product database.
    """

    specs: Mapping[str, ProductSpec]
    folder: Path
    sdb_url: str
    token: str | None = None

    @property
    def retention(self) -> RetentionFolder:
        """Where what is handle of them is."""
        return RetentionFolder(self.folder)

    def work_dir(self, run: ProcessingRun) -> Path:
        """Work folder of a run."""
        return self.folder / "work" / run.run_id


class ProcessRunner:
    """Carries each run out in a process of its own; made by `open_process_runner`."""

    def __init__(self, config: RunnerConfig, starter: "_ProcessStarter") -> None:
        self._config = config
        self._starter = starter

    async def run(self, run: ProcessingRun, on_progress: Callable[[Progress], None]) -> Outcome:
        """Carry `run` out; when cancelled, kill all that it has started."""
        work_dir = self._config.work_dir(run)
        work_dir.mkdir(mode=0o700)
        try:
            return await self._run(self._task(run, work_dir), on_progress)
        except (OSError, EOFError) as exc:
            return Outcome(error=f"its process could not be started: {exc}")
        finally:
            # Its warden has removed it, unless it was killed.
            if work_dir.exists():
                await _uninterrupted(asyncio.to_thread(_clean_up, work_dir, self._config.retention))

    async def _run(self, task: ProcessingTask, on_progress: Callable[[Progress], None]) -> Outcome:
        handle = await self._starter.start(task)
        try:
            await handle.follow(on_progress)
        finally:
            await _uninterrupted(handle.close())
        return handle.outcome()

    def _task(self, run: ProcessingRun, work_dir: Path) -> ProcessingTask:
        return ProcessingTask(
            spec=self._config.specs[run.product],
            run=run,
            sdb_url=self._config.sdb_url,
            token=self._config.token,
            work_dir=work_dir,
            log_path=self._config.retention.log(run.key),
            profiles=self._config.retention.profiles(run.run_id),
        )


@contextmanager
def open_process_runner(config: RunnerConfig, module: str | None) -> Iterator[ProcessRunner]:
    """Make a runner, having swept away what a service that is gone has left.

    Parameters
    ----------
    config : RunnerConfig
        Where and what.
    module : str or None
        The pipeline's module, loaded once for all processings.

    Raises
    ------
    ConfigurationError
        If the pipeline cannot be found from another process.
    """
    folder = config.folder
    for each in (folder, folder / "logs"):
        each.mkdir(parents=True, exist_ok=True, mode=0o700)
    remove_stale_runs(folder / "work", config.retention)
    set_preload(module)
    starter = _ProcessStarter()
    try:
        starter.check_loadable(config.specs)
        yield ProcessRunner(config, starter)
    finally:
        starter.close()


def remove_stale_runs(work: Path, retention: RetentionFolder) -> None:
    """Kill what is left of the runs whose folders are in `work`, and put these away."""
    work.mkdir(exist_ok=True, mode=0o700)
    runs = {folder.name for folder in work.iterdir()}
    if runs:
        _kill_leftovers(runs)
    for run in runs:
        # The warden of a service that has just died may be doing it too.
        _clean_up(work / run, retention)
        if (work / run).exists():
            shutil.rmtree(work / run)


def _clean_up(work_dir: Path, retention: RetentionFolder) -> None:
    try:
        clean_up_work_dir(work_dir, retention.profiles(work_dir.name))
    except OSError as exc:
        LOG.warning("run %s: its profile could not be handle: %s", work_dir.name, exc)


def set_preload(module: str | None) -> None:
    """Have the fork server that is started next load `module`."""
    main = sys.modules["__main__"]
    # A module run by `-m` is found by its name; a script, by its path.
    path = getattr(main, "__file__", None) if getattr(main, "__spec__", None) is None else None
    os.environ[PRELOAD_VARIABLE] = json.dumps(
        {
            "sys_path": [str(Path(each).absolute()) for each in sys.path],
            "main_path": str(Path(path).absolute()) if path else None,
            "module": None if module == "__main__" else module,
        }
    )


class _ProcessStarter:
    """Starts processes by the fork server, one after the other, away from the event loop."""

    def __init__(self) -> None:
        self._fork_server = multiprocessing.get_context("forkserver")
        self._fork_server.set_forkserver_preload([PRELOADED])
        self._thread = ThreadPoolExecutor(1, "starter")

    async def start(self, task: ProcessingTask) -> "_ProcessHandle":
        ours, theirs = socket.socketpair()
        with theirs:
            starting = self._call(self._start, task, theirs)
            try:
                process = await asyncio.shield(starting)
            except asyncio.CancelledError:
                ours.close()  # it will find that nobody listens, and end
                await self.reap(await starting)
                raise
            except BaseException:
                ours.close()
                raise
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_LINE_BYTES)
        return _ProcessHandle(process, reader, writer, self)

    async def reap(self, process: BaseProcess) -> None:
        """Take the end of a process that has ended; in the thread that started it."""
        await self._call(process.join)

    def check_loadable(self, specs: Mapping[str, ProductSpec]) -> None:
        """Check that another process finds what makes each product; it starts the fork server.

        Raises
        ------
        ConfigurationError
            If one cannot be found.
        """
        problems = [problem for spec in specs.values() if (problem := _pickle_problem(spec))]
        if problems:
            raise ConfigurationError(problems)
        process = self._fork_server.Process(target=_do_nothing, args=(tuple(specs.values()),))
        self._thread.submit(process.start).result()
        self._thread.submit(process.join).result()
        if process.exitcode != 0:
            raise ConfigurationError(
                "the pipeline cannot be loaded by another process: its error is above "
                "(a module must be importable, and start nothing when it is imported)"
            )

    def close(self) -> None:
        self._thread.shutdown()

    def _call(self, function: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    def _start(self, task: ProcessingTask, theirs: socket.socket) -> BaseProcess:
        process = self._fork_server.Process(
            target=run_warden, args=(theirs, task), name=task.run.run_id
        )
        process.start()
        return process


def _pickle_problem(spec: ProductSpec) -> str | None:
    try:
        pickle.dumps(spec.function)
    except (pickle.PicklingError, AttributeError, TypeError) as exc:
        return f"product {spec.name!r}: its function must be at the top of a module: {exc}"
    return None


def _do_nothing(_specs: tuple[ProductSpec, ...]) -> None:
    """Do nothing: that it is called means that all was found."""


class _ProcessHandle:
    """A warden and its worker, as the service sees them."""

    def __init__(
        self,
        process: BaseProcess,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        starter: _ProcessStarter,
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

    async def follow(self, on_progress: Callable[[Progress], None]) -> None:
        """Take in what is said until both have ended."""
        reading = asyncio.create_task(self._read(on_progress))
        exited = asyncio.create_task(self._exited.wait())
        try:
            await asyncio.wait({reading, exited}, return_when=asyncio.FIRST_COMPLETED)
            # What was said before the end is there already; a worker without warden may stay.
            await asyncio.wait({reading}, timeout=DRAIN_TIMEOUT_S)
        finally:
            exited.cancel()
            reading.cancel()
            await asyncio.wait({exited, reading})
        if not reading.cancelled():
            reading.result()

    async def close(self) -> None:
        """See to it that nothing of them is left."""
        self._writer.close()  # for the warden: kill what is left, and end
        try:
            async with asyncio.timeout(WARDEN_EXIT_TIMEOUT_S):
                await self._exited.wait()
        except TimeoutError:
            self._process.kill()
            await self._exited.wait()
        if self._exit_code is None and self._worker is not None:
            await asyncio.to_thread(_kill_leftovers, {self._process.name}, self._worker)
        await self._starter.reap(self._process)

    def outcome(self) -> Outcome:
        """What came of it."""
        if self._outcome is not None:
            return self._outcome
        if self._exit_code is None:
            return Outcome(
                error=f"lost: the process that handle it {describe_exit(self._process.exitcode)}"
            )
        return Outcome(error=f"{describe_exit(self._exit_code)} before its product was made")

    async def _read(self, on_progress: Callable[[Progress], None]) -> None:
        async for line in self._reader:
            message = MESSAGE_ADAPTER.validate_json(line)
            if isinstance(message, ProgressUpdate):
                on_progress(Progress(done=message.done, total=message.total))
            elif isinstance(message, Outcome):
                self._outcome = message
            elif isinstance(message, WorkerStarted):
                self._worker = message.pid
            else:
                self._exit_code = message.exit_code
                return

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process.sentinel)
        self._exited.set()


def _kill_leftovers(runs: Container[str], leader: int | None = None) -> None:
    """Kill what runs for `runs`, and every process of the session that a worker led."""
    killed = []
    for process in psutil.process_iter():
        # Those of other users, and those that end meanwhile, do not show what they are.
        with suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.getsid(process.pid) == leader or process.environ().get(RUN_VARIABLE) in runs:
                LOG.warning("process %d of a run that is over: killed", process.pid)
                process.kill()
                killed.append(process)
    psutil.wait_procs(killed, timeout=KILL_TIMEOUT_S)


async def _uninterrupted(work: Coroutine[Any, Any, None]) -> None:
    """Do `work` to its end, even if cancelled meanwhile."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
