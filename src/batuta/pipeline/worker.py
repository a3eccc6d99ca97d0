"""The worker process: runs the pipeline's function and archives the files that it returns."""

import contextlib
import faulthandler
import logging
import os
import select
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from batuta.errors import shortened
from batuta.pipeline.attempt_logs import started_line
from batuta.pipeline.code_version import refuse_mixture
from batuta.pipeline.context import Context, WorkFolder
from batuta.pipeline.declaration import Output
from batuta.pipeline.inputs import InputFetcher
from batuta.pipeline.log_format import log_formatter
from batuta.pipeline.messages import (
    Message,
    Outcome,
    ProductVersion,
    ProgressUpdate,
    TilesChanged,
    TilesPlanned,
    WorkerStarted,
    encode,
)
from batuta.pipeline.outputs import collect_outputs
from batuta.pipeline.runner import RUN_VARIABLE, ProcessingRun, ProcessingTask
from batuta.sdb.client import SdbClient
from batuta.sdb.records import InputRef
from batuta.stages import FINAL
from batuta.tracebacks import describe_failure

if TYPE_CHECKING:
    from batuta.pipeline.tile_progress import TileSink

MAX_ERROR_LENGTH: Final = 2000


def run_worker(service: socket.socket, task: ProcessingTask) -> NoReturn:
    """Execute `task` in this process, send its outcome to `service`, and exit.

    Nothing is executed for a service that has died.
    """
    code = 1
    channel = _ServiceChannel(service)
    try:
        channel.send(WorkerStarted(pid=os.getpid()))
    except (BrokenPipeError, ConnectionResetError):
        # The service has died since it started this process: the next one starts another.
        os._exit(1)
    try:
        _prepare_process(task)
        channel.send(run_processing(task, channel.progress, channel))
        code = 0
    except BaseException as exc:  # noqa: BLE001  the last resort: whatever it is, it is reported
        traceback.print_exc()
        text = describe_failure(exc, getattr(task.spec.function, "__module__", None))
        channel.send(Outcome(error=shortened(text, MAX_ERROR_LENGTH)))
        if isinstance(exc, SystemExit) and isinstance(exc.code, int):
            code = exc.code
    finally:
        _flush()
        # Not sys.exit: threads and atexit functions of the pipeline could hold up the exit, and
        # the code that forked us would run on.
        os._exit(code)


class _ServiceChannel:
    """Sends messages to the service; safe to use from any thread.

    The lock keeps lines whole: the pipeline may report progress from several threads.
    """

    def __init__(self, service: socket.socket) -> None:
        self._service = service
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        with self._lock:
            self._service.sendall(encode(message))

    def progress(self, done: int, total: int) -> None:
        self.send(ProgressUpdate(done=done, total=total))

    def send_tiles(self, message: TilesPlanned | TilesChanged) -> None:
        """Send a message once the socket has room, without the lock until then.

        Nobody who reports progress then waits for a service that is slow to read.
        """
        room = select.poll()  # `select` refuses descriptors from 1024 on
        room.register(self._service, select.POLLOUT)
        room.poll()
        self.send(message)


def _prepare_process(task: ProcessingTask) -> None:
    """Set up this process for its run: standard streams, logging, environment, work folder."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    descriptor = os.open(task.log_path, flags, 0o600)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # real streams here
    faulthandler.enable()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(log_formatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    temporary = task.work_dir / "tmp"
    temporary.mkdir(parents=True, mode=0o700)
    os.environ.update({"TMPDIR": str(temporary), RUN_VARIABLE: task.run.run_id})
    tempfile.tempdir = None
    os.chdir(task.work_dir)


def run_processing(
    task: ProcessingTask, on_progress: Callable[[int, int], None], tiles: "TileSink | None"
) -> Outcome:
    """Fetch the inputs, call the function, archive what it returns; whatever that raises is raised.

    Parameters
    ----------
    task : ProcessingTask
        What is to be made; its work folder is there.
    on_progress : callable
        Called with what is done, out of a total.
    tiles : TileSink or None
        Where the tiles are told.
    """
    run = task.run
    log = logging.getLogger(f"batuta.pipeline.{run.provider}")
    log.info("%s", started_line(run.product, run.obs_id, run.attempt))
    # While the sdb is down the processing waits for it; the scheduler's timeout ends both.
    retry_for_s = task.spec.timeout_s
    with SdbClient(task.sdb_url, token=task.token, retry_for_s=retry_for_s) as sdb:
        inputs = InputFetcher(sdb, run.obs_id, task.work_dir / "inputs", log, _versions(task))
        work_folder = WorkFolder(
            processing_id=run.id,
            obs_id=run.obs_id,
            provider=run.provider,
            work_dir=task.work_dir,
            stage=run.stage or FINAL,
        )
        context = Context(task.spec, work_folder, inputs, on_progress, tiles)
        with contextlib.closing(context):
            made = collect_outputs(task.spec.function(context), context, task.spec.makes)
        context.flush_progress()
        if task.code is not None:
            refuse_mixture(task.code)
        archive = _Archive(sdb, run, tuple(inputs.used_versions), task.code_version)
        outputs = tuple(archive.add(output, log) for output in made)
    return Outcome(inputs=tuple(inputs.used_versions), outputs=outputs)


def _versions(task: ProcessingTask) -> dict[str, int | None]:
    """Return the versions to make a product from; None for optional inputs to be left alone."""
    if task.run.given is None:
        return {}
    # What the graph does not list is not given: a mandatory one is for the pipeline to find.
    return {**dict.fromkeys(task.spec.optional), **task.run.given}


@dataclass(frozen=True)
class _Archive:
    """Imports the outputs of one processing into the sdb."""

    sdb: SdbClient
    run: ProcessingRun
    inputs: tuple[ProductVersion, ...]
    code: str | None

    def add(self, output: Output, log: logging.Logger) -> ProductVersion:
        """Import a file and return its version.

        The sdb imports once per processing: a repeat returns the version that exists already.
        """
        product = output.product or ""
        record = self.sdb.import_file(
            Path(output.path),
            product,
            self.run.obs_id,
            metadata=output.metadata,
            media_type=output.media_type,
            processing_id=self.run.id,
            attempt=self.run.attempt,
            provider=self.run.provider,
            inputs=[InputRef(product=item.product, version=item.version) for item in self.inputs],
            code=self.code,
            graph_version=self.run.graph_version,
            stage=self.run.stage,
            quicklook=Path(output.quicklook) if output.quicklook is not None else None,
        )
        log.info("%s: archived as version %d, %d bytes", product, record.version, record.size)
        return ProductVersion(product=product, version=record.version)


def _flush() -> None:
    with contextlib.suppress(Exception):  # the pipeline may have closed the streams
        sys.stdout.flush()
        sys.stderr.flush()
