"""The process that makes a product: it runs the pipeline's function, and archives its files."""

import contextlib
import faulthandler
import json
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
from batuta.pipeline.context import Context, PipelineError, Place
from batuta.pipeline.declaration import Made, Output
from batuta.pipeline.inputs import Inputs, media_type_of
from batuta.pipeline.messages import (
    Entered,
    Message,
    Outcome,
    ProductVersion,
    Progressed,
    encoded,
)
from batuta.pipeline.runner import RUN_VARIABLE, Task
from batuta.sdb.client import SdbClient
from batuta.sdb.records import InputRef

MAX_ERROR_LENGTH: Final = 2000


def work(service: socket.socket, task: Task) -> NoReturn:
    """Do `task` in this process, tell `service` how it went, and end."""
    code = 1
    voice = _Voice(service)
    try:
        voice.say(Entered(pid=os.getpid()))
        _settle_in(task)
        voice.say(_outcome(task, voice))
        code = 0
    except SystemExit as exc:
        code = _exit_code(exc)
    except BaseException as exc:  # noqa: BLE001  the last resort: whatever it is, it is told
        traceback.print_exc()
        voice.say(Outcome(error=in_one_line(exc)))
    finally:
        _flush()
        # Not by way of the interpreter's end: what the pipeline left running could hold it up.
        os._exit(code)


class _Voice:
    """Tells the service what happens, from any thread."""

    def __init__(self, service: socket.socket) -> None:
        self._service = service
        self._lock = threading.Lock()

    def say(self, message: Message) -> None:
        with self._lock:
            self._service.sendall(encoded(message))

    def progress(self, done: int, total: int) -> None:
        self.say(Progressed(done=done, total=total))


def _settle_in(task: Task) -> None:
    """Make this process the processing's own: its log, its folder, its environment."""
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
    os.environ.update({"TMPDIR": str(temporary), RUN_VARIABLE: task.job.run})
    tempfile.tempdir = None
    os.chdir(task.work_dir)


def _outcome(task: Task, voice: _Voice) -> Outcome:
    job = task.job
    log = logging.getLogger(f"batuta.pipeline.{job.provider}")
    log.info("%s of %s, attempt %d: starts", job.product, job.obs_id, job.attempt)
    # While the sdb is away the processing waits for it, as long as it may last.
    patience_s = task.spec.timeout_s
    with SdbClient(task.sdb_url, token=task.token, retry_for_s=patience_s) as sdb:
        inputs = Inputs(sdb, job.obs_id, task.work_dir / "inputs", log)
        place = Place(
            processing_id=job.id,
            obs_id=job.obs_id,
            provider=job.provider,
            work_dir=task.work_dir,
        )
        context = Context(task.spec, place, inputs, voice.progress)
        made = collect(task.spec.function(context), context, task.spec.makes)
        context.flush_progress()
        archive = _Archive(sdb, job.id, job.provider, job.obs_id, tuple(inputs.used))
        outputs = tuple(archive.add(output, log) for output in made)
    return Outcome(inputs=tuple(inputs.used), outputs=outputs)


def collect(made: Made, context: Context, declared: tuple[str, ...]) -> list[Output]:
    """Check all that a function made, running it to its end where it yields.

    Nothing is archived before all of it is made and right: a processing that fails archives
    nothing.

    Raises
    ------
    PipelineError
        If something is no file of the work folder, is not declared, comes twice or is missing.
    """
    outputs: dict[str, Output] = {}
    for each in _each(made, context.product):
        output = _checked(each, context, declared)
        if output.product in outputs:
            raise PipelineError(f"{output.product}: made twice; a product is one file")
        outputs[output.product or context.product] = output
    if context.product not in outputs:
        raise PipelineError(f"{context.product}: the function ended without making it")
    return list(outputs.values())


def _each(made: Made, product: str) -> Iterable[Output | str | Path]:
    if isinstance(made, Output | str | Path):
        return [made]
    if isinstance(made, Iterable):
        return made
    raise PipelineError(
        f"{product}: the function returned {type(made).__name__}; "
        "an Output, a path, or several of them are expected"
    )


def _checked(each: Output | str | Path, context: Context, declared: tuple[str, ...]) -> Output:
    if not isinstance(each, Output | str | Path):
        raise PipelineError(
            f"{context.product}: {type(each).__name__} made; an Output or a path is expected"
        )
    output = each if isinstance(each, Output) else Output(each)
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
        raise PipelineError(f"output {product}: there is no file {output.path}")
    try:
        json.dumps(dict(output.metadata), allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise PipelineError(f"output {product}: metadata: {exc}") from exc
    media_type = output.media_type or media_type_of(path)
    return replace(output, path=path, product=product, media_type=media_type)


@dataclass(frozen=True)
class _Archive:
    """The sdb, as a processing writes to it."""

    sdb: SdbClient
    processing_id: str
    provider: str
    obs_id: str
    inputs: tuple[ProductVersion, ...]

    def add(self, output: Output, log: logging.Logger) -> ProductVersion:
        """Import a file; a repeat by the same processing is the version that is there."""
        product = output.product or ""
        record = self.sdb.import_file(
            Path(output.path),
            product,
            self.obs_id,
            metadata=output.metadata,
            media_type=output.media_type,
            processing_id=self.processing_id,
            provider=self.provider,
            inputs=[InputRef(product=each.product, version=each.version) for each in self.inputs],
        )
        log.info("%s: archived as version %d, %d bytes", product, record.version, record.size)
        return ProductVersion(product=product, version=record.version)


def in_one_line(exc: BaseException) -> str:
    """What went wrong; for what is not one of our own errors, also its type and where."""
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
    with contextlib.suppress(Exception):  # the pipeline may have closed them
        sys.stdout.flush()
        sys.stderr.flush()
