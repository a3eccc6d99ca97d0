"""The worker process: runs the pipeline's function and archives the files that it returns."""

import contextlib
import faulthandler
import logging
import os
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NoReturn

from batuta.errors import BatutaError, one_line
from batuta.json_values import json_problem, text_problem
from batuta.pipeline.context import Context, PipelineError, WorkFolder
from batuta.pipeline.declaration import FunctionResult, Output
from batuta.pipeline.inputs import InputFetcher, media_type_of
from batuta.pipeline.messages import (
    Message,
    Outcome,
    ProductVersion,
    ProgressUpdate,
    WorkerStarted,
    encode,
)
from batuta.pipeline.runner import RUN_VARIABLE, ProcessingTask
from batuta.sdb.client import SdbClient
from batuta.sdb.records import InputRef

MAX_ERROR_LENGTH: Final = 2000


def run_worker(service: socket.socket, task: ProcessingTask) -> NoReturn:
    """Execute `task` in this process, send its outcome to `service`, and exit."""
    code = 1
    channel = _ServiceChannel(service)
    try:
        channel.send(WorkerStarted(pid=os.getpid()))
        _prepare_process(task)
        channel.send(_run_processing(task, channel))
        code = 0
    except SystemExit as exc:
        code = _exit_code(exc)
    except BaseException as exc:  # noqa: BLE001  the last resort: whatever it is, it is reported
        traceback.print_exc()
        channel.send(Outcome(error=error_line(exc)))
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
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    temporary = task.work_dir / "tmp"
    temporary.mkdir(parents=True, mode=0o700)
    os.environ.update({"TMPDIR": str(temporary), RUN_VARIABLE: task.run.run_id})
    tempfile.tempdir = None
    os.chdir(task.work_dir)


def _run_processing(task: ProcessingTask, channel: _ServiceChannel) -> Outcome:
    run = task.run
    log = logging.getLogger(f"batuta.pipeline.{run.provider}")
    log.info("%s of %s, attempt %d: started", run.product, run.obs_id, run.attempt)
    # While the sdb is down the processing waits for it; the scheduler's timeout ends both.
    retry_for_s = task.spec.timeout_s
    with SdbClient(task.sdb_url, token=task.token, retry_for_s=retry_for_s) as sdb:
        inputs = InputFetcher(sdb, run.obs_id, task.work_dir / "inputs", log)
        work_folder = WorkFolder(
            processing_id=run.id,
            obs_id=run.obs_id,
            provider=run.provider,
            work_dir=task.work_dir,
        )
        context = Context(task.spec, work_folder, inputs, channel.progress)
        made = collect_outputs(task.spec.function(context), context, task.spec.makes)
        context.flush_progress()
        archive = _Archive(sdb, run.id, run.provider, run.obs_id, tuple(inputs.used_versions))
        outputs = tuple(archive.add(output, log) for output in made)
    return Outcome(inputs=tuple(inputs.used_versions), outputs=outputs)


def collect_outputs(
    made: FunctionResult, context: Context, declared: tuple[str, ...]
) -> list[Output]:
    """Validate all that a function returned, running a generator to its end.

    Nothing is archived before all of it is there and valid: a processing that fails archives
    nothing.

    Raises
    ------
    PipelineError
        If an output is not a file in the work folder, is undeclared, repeated or missing.
    """
    outputs: dict[str, Output] = {}
    for item in _iterate(made, context.product):
        output = _validate(item, context, declared)
        if output.product in outputs:
            raise PipelineError(f"{output.product}: returned twice (a product is one file)")
        outputs[output.product or context.product] = output
    if context.product not in outputs:
        raise PipelineError(f"{context.product}: the function returned without making it")
    return list(outputs.values())


def _iterate(made: FunctionResult, product: str) -> Iterable[Output | str | Path]:
    if isinstance(made, Output | str | Path):
        return [made]
    if isinstance(made, Iterable):
        return made
    raise PipelineError(
        f"{product}: the function returned {type(made).__name__} "
        "(accepted: an Output, a path, or an iterable of them)"
    )


def _validate(item: Output | str | Path, context: Context, declared: tuple[str, ...]) -> Output:
    if not isinstance(item, Output | str | Path):
        raise PipelineError(
            f"{context.product}: {type(item).__name__} returned (accepted: an Output or a path)"
        )
    output = item if isinstance(item, Output) else Output(item)
    product = output.product or context.product
    if product not in declared:
        raise PipelineError(
            f"output {product!r}: not declared by {context.product} "
            f"(declared: {', '.join(declared)}; see also_makes)"
        )
    path = context.work_dir / output.path
    if not path.resolve().is_relative_to(context.work_dir.resolve()):
        raise PipelineError(f"output {product}: {output.path} is outside the work folder")
    if not path.is_file():
        raise PipelineError(f"output {product}: file not found: {output.path}")
    for problem in (
        json_problem(dict(output.metadata), "metadata"),
        text_problem(path.name) and f"the name of its file {text_problem(path.name)}",
    ):
        if problem is not None:
            raise PipelineError(f"output {product}: {problem}")
    media_type = output.media_type or media_type_of(path)
    return replace(output, path=path, product=product, media_type=media_type)


@dataclass(frozen=True)
class _Archive:
    """Imports the outputs of one processing into the sdb."""

    sdb: SdbClient
    processing_id: str
    provider: str
    obs_id: str
    inputs: tuple[ProductVersion, ...]

    def add(self, output: Output, log: logging.Logger) -> ProductVersion:
        """Import a file and return its version.

        The sdb imports once per processing: a repeat returns the version that exists already.
        """
        product = output.product or ""
        record = self.sdb.import_file(
            Path(output.path),
            product,
            self.obs_id,
            metadata=output.metadata,
            media_type=output.media_type,
            processing_id=self.processing_id,
            provider=self.provider,
            inputs=[InputRef(product=item.product, version=item.version) for item in self.inputs],
        )
        log.info("%s: archived as version %d, %d bytes", product, record.version, record.size)
        return ProductVersion(product=product, version=record.version)


def error_line(exc: BaseException) -> str:
    """Describe an exception in one line; for an unexpected one, with its type and location."""
    message = one_line(exc)[:MAX_ERROR_LENGTH]
    if isinstance(exc, BatutaError):
        return message
    frames = traceback.extract_tb(exc.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(exc).__name__}: {message}{where}" if message else f"{type(exc).__name__}{where}"


def _exit_code(exc: SystemExit) -> int:
    if exc.code is None or isinstance(exc.code, int):
        return exc.code or 0
    sys.stderr.write(f"{exc.code}\n")
    return 1


def _flush() -> None:
    with contextlib.suppress(Exception):  # the pipeline may have closed the streams
        sys.stdout.flush()
        sys.stderr.flush()
