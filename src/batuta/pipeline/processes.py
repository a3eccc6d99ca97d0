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
from batuta.pipeline.exit_status import fate
from batuta.pipeline.messages import MESSAGE, Entered, Outcome, Progressed
from batuta.pipeline.retention import Shelf, put_away
from batuta.pipeline.runner import RUN_VARIABLE, Job, Task
from batuta.pipeline.warden import keep

LOG: Final = logging.getLogger(__name__)

PRELOADED: Final = "batuta.pipeline.preload"
PRELOAD_VARIABLE: Final = "BATUTA_PIPELINE_PRELOAD"

WARDEN_PATIENCE_S: Final = 10.0
"""How long a warden may take to end what it keeps, before it is killed too, in seconds."""

LAST_WORDS_S: Final = 1.0

DYING_S: Final = 2.0

MAX_LINE_BYTES: Final = 2**20


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where processings work, and with what.

    Parameters
    ----------
    specs : mapping
        What can be made, by name.
    folder : Path
        Holds their work folders, and what is kept of them.
    sdb_url, token : str
        The product database.
    """

    specs: Mapping[str, ProductSpec]
    folder: Path
    sdb_url: str
    token: str | None = None

    @property
    def shelf(self) -> Shelf:
        """Where what is kept of them is."""
        return Shelf(self.folder)

    def work_dir(self, job: Job) -> Path:
        """Work folder of a run."""
        return self.folder / "work" / job.run


class ProcessRunner:
    """Carries each job out in a process of its own; made by `open_process_runner`."""

    def __init__(self, workshop: Workshop, starter: "_Starter") -> None:
        self._workshop = workshop
        self._starter = starter

    async def run(self, job: Job, told: Callable[[Progress], None]) -> Outcome:
        """Carry `job` out; when cancelled, kill all that it has started."""
        work_dir = self._workshop.work_dir(job)
        work_dir.mkdir(mode=0o700)
        try:
            return await self._run(self._task(job, work_dir), told)
        except (OSError, EOFError) as exc:
            return Outcome(error=f"its process could not be started: {exc}")
        finally:
            # Its warden has removed it, unless it was killed.
            if work_dir.exists():
                await _undisturbed(asyncio.to_thread(_put_away, work_dir, self._workshop.shelf))

    async def _run(self, task: Task, told: Callable[[Progress], None]) -> Outcome:
        kept = await self._starter.start(task)
        try:
            await kept.listen(told)
        finally:
            await _undisturbed(kept.end())
        return kept.outcome()

    def _task(self, job: Job, work_dir: Path) -> Task:
        return Task(
            spec=self._workshop.specs[job.product],
            job=job,
            sdb_url=self._workshop.sdb_url,
            token=self._workshop.token,
            work_dir=work_dir,
            log_path=self._workshop.shelf.log(job.key),
            profiles=self._workshop.shelf.profiles(job.run),
        )


@contextmanager
def open_process_runner(workshop: Workshop, module: str | None) -> Iterator[ProcessRunner]:
    """Make a runner, having swept away what a service that is gone has left.

    Parameters
    ----------
    workshop : Workshop
        Where and what.
    module : str or None
        The pipeline's module, loaded once for all processings.

    Raises
    ------
    ConfigurationError
        If the pipeline cannot be found from another process.
    """
    folder = workshop.folder
    for each in (folder, folder / "logs"):
        each.mkdir(parents=True, exist_ok=True, mode=0o700)
    sweep(folder / "work", workshop.shelf)
    announce_preload(module)
    starter = _Starter()
    try:
        starter.prove(workshop.specs)
        yield ProcessRunner(workshop, starter)
    finally:
        starter.close()


def sweep(work: Path, shelf: Shelf) -> None:
    """Kill what is left of the runs whose folders are in `work`, and put these away."""
    work.mkdir(exist_ok=True, mode=0o700)
    runs = {folder.name for folder in work.iterdir()}
    if runs:
        _kill_left_behind(runs)
    for run in runs:
        # The warden of a service that has just died may be doing it too.
        _put_away(work / run, shelf)
        if (work / run).exists():
            shutil.rmtree(work / run)


def _put_away(work_dir: Path, shelf: Shelf) -> None:
    try:
        put_away(work_dir, shelf.profiles(work_dir.name))
    except OSError as exc:
        LOG.warning("run %s: its profile could not be kept: %s", work_dir.name, exc)


def announce_preload(module: str | None) -> None:
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


class _Starter:
    """Starts processes by the fork server, one after the other, away from the event loop."""

    def __init__(self) -> None:
        self._fork_server = multiprocessing.get_context("forkserver")
        self._fork_server.set_forkserver_preload([PRELOADED])
        self._thread = ThreadPoolExecutor(1, "starter")

    async def start(self, task: Task) -> "_Kept":
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
        return _Kept(process, reader, writer, self)

    async def reap(self, process: BaseProcess) -> None:
        """Take the end of a process that has ended; in the thread that started it."""
        await self._call(process.join)

    def prove(self, specs: Mapping[str, ProductSpec]) -> None:
        """Check that another process finds what makes each product; it starts the fork server.

        Raises
        ------
        ConfigurationError
            If one cannot be found.
        """
        problems = [problem for spec in specs.values() if (problem := _pickle_problem(spec))]
        if problems:
            raise ConfigurationError(problems)
        process = self._fork_server.Process(target=_found, args=(tuple(specs.values()),))
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

    def _start(self, task: Task, theirs: socket.socket) -> BaseProcess:
        process = self._fork_server.Process(target=keep, args=(theirs, task), name=task.job.run)
        process.start()
        return process


def _pickle_problem(spec: ProductSpec) -> str | None:
    try:
        pickle.dumps(spec.function)
    except (pickle.PicklingError, AttributeError, TypeError) as exc:
        return f"product {spec.name!r}: its function must be at the top of a module: {exc}"
    return None


def _found(_specs: tuple[ProductSpec, ...]) -> None:
    """Do nothing: that it is called means that all was found."""


class _Kept:
    """A warden and its worker, as the service sees them."""

    def __init__(
        self,
        process: BaseProcess,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        starter: _Starter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._starter = starter
        self._worker: int | None = None
        self._outcome: Outcome | None = None
        self._exit_code: int | None = None
        self._gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(process.sentinel, self._on_gone)

    async def listen(self, told: Callable[[Progress], None]) -> None:
        """Take in what is said until both have ended."""
        reading = asyncio.create_task(self._read(told))
        gone = asyncio.create_task(self._gone.wait())
        try:
            await asyncio.wait({reading, gone}, return_when=asyncio.FIRST_COMPLETED)
            # What was said before the end is there already; a worker without warden may stay.
            await asyncio.wait({reading}, timeout=LAST_WORDS_S)
        finally:
            gone.cancel()
            reading.cancel()
            await asyncio.wait({gone, reading})
        if not reading.cancelled():
            reading.result()

    async def end(self) -> None:
        """See to it that nothing of them is left."""
        self._writer.close()  # for the warden: kill what is left, and end
        try:
            async with asyncio.timeout(WARDEN_PATIENCE_S):
                await self._gone.wait()
        except TimeoutError:
            self._process.kill()
            await self._gone.wait()
        if self._exit_code is None and self._worker is not None:
            await asyncio.to_thread(_kill_left_behind, {self._process.name}, self._worker)
        await self._starter.reap(self._process)

    def outcome(self) -> Outcome:
        """What came of it."""
        if self._outcome is not None:
            return self._outcome
        if self._exit_code is None:
            return Outcome(error=f"lost: the process that kept it {fate(self._process.exitcode)}")
        return Outcome(error=f"{fate(self._exit_code)} before its product was made")

    async def _read(self, told: Callable[[Progress], None]) -> None:
        async for line in self._reader:
            message = MESSAGE.validate_json(line)
            if isinstance(message, Progressed):
                told(Progress(done=message.done, total=message.total))
            elif isinstance(message, Outcome):
                self._outcome = message
            elif isinstance(message, Entered):
                self._worker = message.pid
            else:
                self._exit_code = message.exit_code
                return

    def _on_gone(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process.sentinel)
        self._gone.set()


def _kill_left_behind(runs: Container[str], leader: int | None = None) -> None:
    """Kill what runs for `runs`, and every process of the session that a worker led."""
    killed = []
    for process in psutil.process_iter():
        # Those of other users, and those that end meanwhile, do not show what they are.
        with suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.getsid(process.pid) == leader or process.environ().get(RUN_VARIABLE) in runs:
                LOG.warning("process %d of a run that is over: killed", process.pid)
                process.kill()
                killed.append(process)
    psutil.wait_procs(killed, timeout=DYING_S)


async def _undisturbed(work: Coroutine[Any, Any, None]) -> None:
    """Do `work` to its end, even if cancelled meanwhile."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
