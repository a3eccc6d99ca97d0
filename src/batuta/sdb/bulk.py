"""Many small files in one request: a line of JSON for each, and a line of JSON in answer to each.

None fails the others. They are stored together, then recorded in group commits, each in the order
of its line. Where the database fails in the middle, each line tells what is known of its file: that
it is recorded, or that it is to be sent again, which records nothing twice.
"""

import asyncio
import json
import logging
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeVar

from fastapi import Request
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.concurrency import run_in_threadpool

from batuta.sdb.catalogue import ImportResult
from batuta.sdb.fields import (
    MAX_FIELDS_BYTES,
    ImportRequest,
    ImportSubject,
    refuse_compressed,
)
from batuta.sdb.json_fields import read_object, request_of
from batuta.sdb.new_product import NewProduct
from batuta.sdb.quota import Reception
from batuta.sdb.recording import ImportRecorder
from batuta.sdb.request_body import RequestBody, require_type
from batuta.sdb.settings import MAX_SMALL_FILE_BYTES
from batuta.sdb.store import SmallFile, StoreError, file_errors
from batuta.service.bodies import Chunk
from batuta.service.database import UNAVAILABLE, unavailable_reason
from batuta.service.problems import ProblemError

MEDIA_TYPE: Final = "application/x-ndjson"
MAX_FILES: Final = 1000
MAX_BODY_BYTES: Final = 64 * 2**20
"""Of a request: its answers are kept until its end, as clients read none before that."""
BATCH: Final = 250
"""Files that are recorded together: those of others wait no longer than these take."""
MAX_LINE_BYTES: Final = MAX_SMALL_FILE_BYTES * 4 // 3 + MAX_FIELDS_BYTES + 2**10
"""The content in Base64, the fields, and the names of all."""
MAX_BATCH_BYTES: Final = 8 * 2**20
CONTENT: Final = "content"

Unavailable = OperationalError | PoolTimeoutError
"""Why the database could not be used: it is not known whether a file is recorded."""
Failure = ProblemError | Unavailable
Outcome = ImportResult | Failure
_Stored = tuple[NewProduct, ImportResult | None]
T = TypeVar("T")

LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class BulkImporter:
    """Imports the files of a request.

    Parameters
    ----------
    recorder : ImportRecorder
        Stores and records them.
    small_file_bytes : int
        The largest file that is kept in the database.
    """

    recorder: ImportRecorder
    small_file_bytes: int

    async def import_all(self, request: Request) -> list[bytes]:
        """Return the answers, each a line, in the order of the files.

        Once the database cannot be used, the files that follow are not tried.

        Raises
        ------
        ProblemError
            If the body is none of lines of JSON; 507 if the disk has no room for any file.
        ClientDisconnect
            If the client disconnected; what was received by then may be recorded.
        sqlalchemy.exc.OperationalError, sqlalchemy.exc.TimeoutError
            If the database cannot be used before anything is known of any file.
        """
        refuse_compressed(request.headers)
        require_type(request, MEDIA_TYPE)
        answers: list[bytes] = []
        batch = _Batch()
        away: Unavailable | None = None
        with self.recorder.metrics.receiving.track_inprogress():
            async for line in _bounded(RequestBody(request)):
                batch.add(line)
                if batch.is_full:
                    away = await self._import(batch, answers, away)
                    batch = _Batch()
            await self._import(batch, answers, away)
        return answers

    async def _import(
        self, batch: "_Batch", answers: list[bytes], away: Unavailable | None
    ) -> Unavailable | None:
        """Import a batch, add its answers, and return why the database cannot be used, if so."""
        if away is not None:
            answers += [self._refusal(_not_tried(away)) for _ in batch.lines]
            return away
        outcomes = await self._outcomes(batch, is_first=not answers)
        away = next((each for each in outcomes if isinstance(each, UNAVAILABLE)), None)
        if away is not None:
            if not answers and all(isinstance(each, UNAVAILABLE) for each in outcomes):
                raise away
            LOG.error(
                "POST /products/bulk: database: %s; %d files are known of, those that follow are "
                "not tried",
                unavailable_reason(away),
                len(answers) + sum(not isinstance(each, UNAVAILABLE) for each in outcomes),
            )
        answers += [self._answer(each) for each in outcomes]
        return away

    async def _outcomes(self, batch: "_Batch", *, is_first: bool) -> list[Outcome]:
        try:
            # Counted until all are stored, and no longer: once recorded, they would be twice.
            async with AsyncExitStack() as counted:
                reception = await counted.enter_async_context(self.recorder.counted(None, 0))
                stores = (self._store(line, reception, counted) for line in batch.lines)
                stored = await asyncio.gather(*map(_outcome_of, stores))
        except (ProblemError, *UNAVAILABLE) as exc:
            # Before any of the batch was tried.
            if is_first:
                raise
            return [exc] * len(batch.lines)
        # In the order of their lines, however long each took to be stored.
        return await asyncio.gather(*(_outcome_of(self._record(each)) for each in stored))

    async def _store(
        self, line: bytes | ProblemError, of_small: Reception, counted: AsyncExitStack
    ) -> _Stored:
        if isinstance(line, ProblemError):
            raise line
        asked, content = _read(line)
        if len(content) <= self.small_file_bytes:
            return self.recorder.store_file(asked, None, of_small, SmallFile(content))
        subject = ImportSubject(
            product=asked.product, obs_id=asked.obs_id, processing_id=asked.processing_id
        )
        reception = await counted.enter_async_context(self.recorder.counted(subject, len(content)))
        return await run_in_threadpool(self._write, asked, content, reception)

    def _write(self, asked: ImportRequest, content: bytes, reception: Reception) -> _Stored:
        with closing(self.recorder.store.receive()) as upload:
            reception.write(len(content))
            with file_errors():
                upload.write([content])
            return self.recorder.store_file(asked, None, reception, upload)

    async def _record(self, stored: _Stored | Failure) -> ImportResult:
        if isinstance(stored, Exception):
            raise stored
        new, repeated = stored
        # That it repeats the newest version is true once the lines before it are recorded, or not.
        return await self.recorder.record(new, repeated if new.processing_id else None)

    def _answer(self, outcome: Outcome) -> bytes:
        if isinstance(outcome, UNAVAILABLE):
            return self._refusal(_unknown(outcome))
        if isinstance(outcome, ProblemError):
            return self._refusal(outcome)
        status = HTTPStatus.CREATED if outcome.is_new else HTTPStatus.OK
        stored = outcome.stored.model_dump_json().encode()
        return b'{"status":%d,"stored":%s}\n' % (status, stored)

    def _refusal(self, problem: ProblemError) -> bytes:
        self.recorder.metrics.refused.labels(problem.status.value).inc()
        answer = {"status": problem.status.value, "detail": problem.detail}
        return json.dumps(answer).encode() + b"\n"


async def _outcome_of(work: Awaitable[T]) -> T | Failure:
    """Return what comes of the work on one file, which fails no other."""
    try:
        return await work
    except (ProblemError, *UNAVAILABLE) as exc:
        return exc
    except StoreError as exc:
        status = HTTPStatus.INSUFFICIENT_STORAGE if exc.full else HTTPStatus.SERVICE_UNAVAILABLE
        return ProblemError(status, f"store: {exc}")


def _unknown(exc: Unavailable) -> ProblemError:
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"database unavailable: {unavailable_reason(exc)}; whether the file is recorded is not "
        "known: send it again",
    )


def _not_tried(exc: Unavailable) -> ProblemError:
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"database unavailable: {unavailable_reason(exc)}; not tried: send it again",
    )


async def _bounded(body: RequestBody) -> AsyncIterator[bytes | ProblemError]:
    """Yield the lines of a body; a refusal for each that is beyond what a request may have."""
    count = size = 0
    lines = _Lines()

    def within(found: bytes | ProblemError) -> bytes | ProblemError:
        nonlocal count
        count += 1
        return found if count <= MAX_FILES and size <= MAX_BODY_BYTES else _too_many()

    async for chunk in body.chunks():
        size += len(chunk)
        for line in lines.feed(chunk):
            yield within(line)
    for line in lines.finish():
        yield within(line)


class _Batch:
    """Lines that are recorded together."""

    def __init__(self) -> None:
        self.lines: list[bytes | ProblemError] = []
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        return len(self.lines) == BATCH or self._bytes >= MAX_BATCH_BYTES

    def add(self, line: bytes | ProblemError) -> None:
        self.lines.append(line)
        self._bytes += len(line) if isinstance(line, bytes) else 0


class _Lines:
    """Splits a body at its ends of lines; one that is too long is told, and not kept."""

    def __init__(self) -> None:
        self._begun: list[bytes] = []
        self._size = 0

    def feed(self, chunk: Chunk) -> Iterator[bytes | ProblemError]:
        """Yield the lines that end in `chunk`."""
        *ended, rest = bytes(chunk).split(b"\n")
        for end in ended:
            self._add(end)
            yield from self.finish()
        self._add(rest)

    def finish(self) -> Iterator[bytes | ProblemError]:
        """Yield what was begun; an empty line is none."""
        line, size = b"".join(self._begun), self._size
        self._begun, self._size = [], 0
        if size > MAX_LINE_BYTES:
            yield ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"line: {size} bytes (accepted: at most {MAX_LINE_BYTES}, with files of at most "
                f"{MAX_SMALL_FILE_BYTES}; import larger ones by themselves)",
            )
        elif line.strip():
            yield line

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > MAX_LINE_BYTES:
            self._begun = []
        elif piece:
            self._begun.append(piece)


def _read(line: bytes) -> tuple[ImportRequest, bytes]:
    said = read_object(line)
    problems: list[str] = []
    content = _content(said, problems)
    said.pop(CONTENT, None)
    return request_of(said, problems, (CONTENT,)), content


def _content(said: dict[str, Any], problems: list[str]) -> bytes:
    value = said.get(CONTENT)
    try:
        content = b64decode(value, validate=True) if isinstance(value, str) else None
    except (Base64Error, ValueError):
        content = None
    if content is None:
        problems.append(f"{CONTENT}: {str(value)[:40]!r} (accepted: the file in Base64)")
    elif len(content) > MAX_SMALL_FILE_BYTES:
        problems.append(
            f"{CONTENT}: {len(content)} bytes (accepted: at most {MAX_SMALL_FILE_BYTES}; import "
            "larger files by themselves)"
        )
    return content or b""


def _too_many() -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"request: more than {MAX_FILES} files, or {MAX_BODY_BYTES} bytes (accepted: at most that; "
        "import the others by another request)",
    )
