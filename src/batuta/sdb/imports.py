"""An import: receive the file, verify it, store it, then commit its record and announcement."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from batuta.quicklook import MAX_GIVEN_BYTES
from batuta.sdb.catalogue import ImportResult
from batuta.sdb.fields import MAX_FIELDS_BYTES, BodyDecoder
from batuta.sdb.quota import Reception
from batuta.sdb.recording import ImportRecorder, too_large
from batuta.sdb.request_body import RequestBody, announced_bytes
from batuta.sdb.store import ProductStore, SmallFile, StoreError, Upload, file_errors
from batuta.service.bodies import BUFFER_BYTES, Chunk
from batuta.service.problems import ProblemError
from batuta.service.threads import ended_in_thread

LOG: Final = logging.getLogger(__name__)

WRITE_BYTES: Final = BUFFER_BYTES // 2
"""The file is written and hashed in chunks of at least this size: less than a buffer of a body, so
that what is in one is written before that is used again."""
CLIENT_CLOSED_REQUEST: Final = 499

T = TypeVar("T")
Decoding = Callable[[Request], BodyDecoder]


class UploadAbortedError(Exception):
    """The client disconnected during the upload; there is nobody to answer."""


@dataclass(frozen=True, kw_only=True)
class Importer:
    """Imports uploaded files.

    Parameters
    ----------
    recorder : ImportRecorder
        Stores and records them.
    max_upload_bytes : int
        The largest file accepted.
    small_file_bytes : int
        The largest file that is kept in the database, committed with its record.
    """

    recorder: ImportRecorder
    max_upload_bytes: int
    small_file_bytes: int

    async def import_upload(self, request: Request, decoding: Decoding) -> ImportResult:
        """Import the upload in `request`; nothing is recorded unless all of it is valid.

        Parameters
        ----------
        request : Request
            Whose body was not read yet.
        decoding : callable
            Makes the decoder of its body.

        Raises
        ------
        ProblemError
            If it is refused.
        UploadAbortedError
            If the client disconnected during the upload.
        StoreError
            If the store cannot write it.
        """
        body = RequestBody(request)
        metrics = self.recorder.metrics
        with metrics.receiving.track_inprogress():
            try:
                return await self._import_upload(request, body, decoding)
            except ProblemError as exc:
                metrics.refused.labels(exc.status.value).inc()
                await body.drain()
                raise
            except StoreError:
                await body.drain()
                raise
            except ClientDisconnect as exc:
                metrics.cut.inc()
                LOG.warning("a client disconnected during its import: nothing was recorded")
                raise UploadAbortedError from exc

    async def _import_upload(
        self, request: Request, body: RequestBody, decoding: Decoding
    ) -> ImportResult:
        self._check_content_length(request)
        decoder = decoding(request)
        at_least = max(announced_bytes(request) - decoder.max_besides_bytes, 0)
        if at_least <= self.small_file_bytes:
            # In memory until its record is committed, which is refused where it repeats nothing.
            at_least = 0
        recorder = self.recorder
        async with (
            recorder.counted(decoder.subject, at_least) as reception,
            self._receiving(reception) as writer,
        ):
            async for chunk in body.chunks():
                decoder.feed(chunk)
                if decoder.waiting_bytes >= WRITE_BYTES:
                    await writer.write(decoder.take())
            asked = decoder.finish()
            picture = None
            if asked.quicklook is not None:
                # In a thread: its library is imported then, and parses the head of a file.
                picture = await run_in_threadpool(recorder.describe_quicklook, asked.quicklook)
            new, repeated = await writer.finish(
                decoder.take(), partial(recorder.store_file, asked, picture, reception)
            )
        return await recorder.record(new, repeated, asked.quicklook)

    @asynccontextmanager
    async def _receiving(self, reception: Reception) -> AsyncIterator["_UploadWriter"]:
        writer = _UploadWriter(
            self.recorder.store, reception, self.max_upload_bytes, self.small_file_bytes
        )
        try:
            yield writer
        finally:
            await writer.stop()

    def _check_content_length(self, request: Request) -> None:
        besides = MAX_FIELDS_BYTES + MAX_GIVEN_BYTES
        if announced_bytes(request) > self.max_upload_bytes + besides:
            raise too_large(self.max_upload_bytes)


class _UploadWriter:
    """Writes an upload in a thread, one chunk while the next is received.

    A small file needs none: it stays in memory, and hashing it takes less than a thread's start.
    """

    def __init__(
        self, store: ProductStore, reception: Reception, max_bytes: int, small_bytes: int
    ) -> None:
        self._store = store
        self._reception = reception
        self._max_bytes = max_bytes
        self._small_bytes = small_bytes
        self._total_bytes = 0
        self._upload: Upload | None = None
        self._writing: asyncio.Task[Upload] | None = None

    async def write(self, pieces: Sequence[Chunk]) -> None:
        """Start writing `pieces`, once those before are written."""
        self._count(pieces)
        await self._wait_for_write()
        self._writing = asyncio.create_task(run_in_threadpool(self._write, pieces))

    async def finish(self, last: Sequence[Chunk], then: Callable[[Upload | SmallFile], T]) -> T:
        """Write the `last` pieces, and return what `then` makes of the whole file."""
        self._count(last)
        await self._wait_for_write()
        if self._upload is None and self._total_bytes <= self._small_bytes:
            return then(SmallFile(b"".join(last)))
        return await ended_in_thread(self._finish, last, then)

    async def stop(self) -> None:
        """Close the upload once no thread writes to it."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        if self._upload is not None and not self._upload.closed:
            await run_in_threadpool(self._upload.close)

    async def _wait_for_write(self) -> None:
        """Wait for the chunk that is being written."""
        if self._writing is not None:
            # Not forgotten before it has ended, also where this is cancelled: see `stop`.
            await asyncio.shield(self._writing)
            self._writing = None

    def _count(self, pieces: Sequence[Chunk]) -> None:
        self._total_bytes += sum(map(len, pieces))
        if self._total_bytes > self._max_bytes:
            raise too_large(self._max_bytes)

    def _write(self, pieces: Sequence[Chunk]) -> Upload:
        if self._upload is None:
            self._upload = self._store.receive()
        self._reception.write(sum(map(len, pieces)))
        with file_errors():
            self._upload.write(pieces)
        return self._upload

    def _finish(self, last: Sequence[Chunk], then: Callable[[Upload | SmallFile], T]) -> T:
        upload = self._write(last)
        finished = then(upload)
        upload.close()
        return finished
