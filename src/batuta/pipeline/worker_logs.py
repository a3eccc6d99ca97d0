"""The logs of the workers of a processing, as one text."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from batuta.pipeline.retention import RetentionFolder
from batuta.service.log_files import CHUNK_BYTES


@dataclass(frozen=True)
class WorkerLog:
    """The log of a worker: opened, as its removal must not cut what is sent."""

    name: str
    """``<orchestrator>/<file>``."""
    file: BinaryIO


def open_worker_logs(retention: RetentionFolder, run: str) -> list[WorkerLog]:
    """Open the logs of a run's workers so far; none if the run has left none."""
    while True:
        logs: list[WorkerLog] = []
        try:
            for name, path in retention.worker_logs(run):
                logs.append(WorkerLog(name, path.open("rb")))
        except FileNotFoundError:  # the run has just ended, and they are moved: looked for again
            for each in logs:
                each.file.close()
            continue
        return logs


def joined(logs: Iterable[WorkerLog]) -> Iterator[bytes]:
    """Yield each log below a line with its name, to the end that it has now."""
    waiting = list(logs)
    try:
        for each in waiting:
            yield f"== {each.name}\n".encode()
            yield from _chunks(each.file)
    finally:
        for each in waiting:
            each.file.close()


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    left = os.fstat(file.fileno()).st_size
    last = b"\n"
    while left > 0 and (chunk := file.read(min(left, CHUNK_BYTES))):
        left -= len(chunk)
        last = chunk[-1:]
        yield chunk
    if last != b"\n":
        yield b"\n"
