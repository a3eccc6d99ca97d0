"""An import: receive the file, verify it, store it, then commit its record and announcement."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final, TypeVar

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from batuta.sdb.catalogue import Catalogue, ImportResult, NewProduct
from batuta.sdb.form import MAX_FIELDS_BYTES, ImportForm, ImportRequest
from batuta.sdb.metrics import SdbMetrics
from batuta.sdb.store import ProductStore, StoreError, Upload, file_errors
from batuta.service.committer import Committer
from batuta.service.problems import ProblemError

LOG: Final = logging.getLogger(__name__)

WRITE_BYTES: Final = 2**20
"""The file is written and hashed in chunks of about this size."""
MAX_DRAIN_BYTES: Final = 64 * 2**20
"""How much of a refused body is still read, so that its sender gets to read the answer."""
CLIENT_CLOSED_REQUEST: Final = 499

T = TypeVar("T")


class UploadAbortedError(Exception):
    """The client disconnected during the upload; there is nobody to answer."""


@dataclass(frozen=True, kw_only=True)
class Importer:
    """Imports uploaded files.

    Parameters
    ----------
    store, catalogue
        Where bytes and records go.
    committer : Committer
        Commits records; those of concurrent imports share a commit.
    metrics : SdbMetrics
        Counts them.
    max_upload_bytes : int
        The largest file accepted.
    announce : callable
        Called when the outbox has a new row.
    """

    store: ProductStore
    catalogue: Catalogue
    committer: Committer
    metrics: SdbMetrics
    max_upload_bytes: int
    announce: Callable[[], None]

    async def import_upload(self, request: Request) -> ImportResult:
        """Import the upload in `request`; nothing is recorded unless all of it is valid.

        Raises
        ------
        ProblemError
            If it is refused.
        UploadAbortedError
            If the client disconnected during the upload.
        StoreError
            If the store cannot write it.
        """
        body = _Body(request)
        with self.metrics.receiving.track_inprogress():
            try:
                return await self._import_upload(request, body)
            except ProblemError as exc:
                self.metrics.refused.labels(exc.status.value).inc()
                await body.drain()
                raise
            except StoreError:
                await body.drain()
                raise
            except ClientDisconnect as exc:
                self.metrics.cut.inc()
                LOG.warning("a client disconnected during its import: nothing was recorded")
                raise UploadAbortedError from exc

    async def _import_upload(self, request: Request, body: "_Body") -> ImportResult:
        self._check_content_length(request)
        form = ImportForm(request.headers)
        async with self._receiving() as writer:
            async for chunk in body.chunks():
                form.feed(chunk)
                if form.waiting_bytes >= WRITE_BYTES:
                    await writer.write(form.take())
            asked = form.finish()
            new, recorded = await writer.finish(form.take(), partial(self._store, asked))
        if recorded is None:
            recorded = await self.committer.commit(partial(self.catalogue.record, new=new))
        self._count(recorded, new)
        self.announce()
        return recorded

    def _store(
        self, asked: ImportRequest, upload: Upload
    ) -> tuple[NewProduct, ImportResult | None]:
        """Store the bytes of `upload`, unless it repeats an import: then return that one too."""
        if asked.sha256 is not None and asked.sha256.lower() != upload.sha256:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"file: its SHA-256 is {upload.sha256}, not {asked.sha256} as declared; "
                "nothing was recorded",
            )
        new = _new_product(asked, upload)
        repeated = self.catalogue.find_repeated(new)
        if repeated is None:
            self.store.put(upload)
        return new, repeated

    @asynccontextmanager
    async def _receiving(self) -> AsyncIterator["_UploadWriter"]:
        writer = _UploadWriter(self.store, self.max_upload_bytes)
        try:
            yield writer
        finally:
            await writer.stop()

    def _count(self, recorded: ImportResult, new: NewProduct) -> None:
        stored = recorded.stored
        if recorded.is_new:
            self.metrics.imports.inc()
            self.metrics.imported_bytes.inc(stored.size)
            return
        self.metrics.repeats.inc()
        if stored.sha256 != new.sha256:
            self.metrics.other_bytes.inc()
            LOG.warning(
                "processing %s imported %s of %s again with other bytes (SHA-256 %s): the first "
                "ones are kept (%s, version %d)",
                new.processing_id,
                new.product,
                new.obs_id,
                new.sha256,
                stored.sha256,
                stored.version,
            )

    def _check_content_length(self, request: Request) -> None:
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self.max_upload_bytes + MAX_FIELDS_BYTES:
            raise _too_large(self.max_upload_bytes)


class _Body:
    """The streamed body of a request, which knows whether its end was received."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._ended = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield chunks; raise `ClientDisconnect` if the client goes away before the end."""
        while not self._ended:
            message = await self._request.receive()
            if message["type"] == "http.disconnect":
                self._ended = True
                raise ClientDisconnect
            self._ended = not message.get("more_body", False)
            yield message.get("body", b"")

    async def drain(self) -> None:
        """Read and discard more of the body: a client still writing may never read the answer."""
        drained_bytes = 0
        with suppress(ClientDisconnect):
            async for chunk in self.chunks():
                drained_bytes += len(chunk)
                if drained_bytes > MAX_DRAIN_BYTES:
                    return


class _UploadWriter:
    """Writes an upload in a thread, one chunk while the next is received.

    A small file comes in one chunk, and so costs a single call of a thread.
    """

    def __init__(self, store: ProductStore, max_bytes: int) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._total_bytes = 0
        self._upload: Upload | None = None
        self._writing: asyncio.Task[Upload] | None = None

    async def write(self, pieces: list[bytes]) -> None:
        """Start writing `pieces`, once those before are written."""
        self._count(pieces)
        await self._wait_for_write()
        self._writing = asyncio.create_task(run_in_threadpool(self._write, pieces))

    async def finish(self, last: list[bytes], then: Callable[[Upload], T]) -> T:
        """Write the `last` pieces, and return what `then` makes of the whole upload."""
        self._count(last)
        await self._wait_for_write()
        return await run_in_threadpool(self._finish, last, then)

    async def stop(self) -> None:
        """Close the upload once no thread writes to it."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        if self._upload is not None and not self._upload.closed:
            await run_in_threadpool(self._upload.close)

    async def _wait_for_write(self) -> None:
        """Wait for the chunk that is being written."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await writing

    def _count(self, pieces: list[bytes]) -> None:
        self._total_bytes += sum(map(len, pieces))
        if self._total_bytes > self._max_bytes:
            raise _too_large(self._max_bytes)

    def _write(self, pieces: list[bytes]) -> Upload:
        if self._upload is None:
            self._upload = self._store.receive()
        with file_errors():
            self._upload.write(pieces)
        return self._upload

    def _finish(self, last: list[bytes], then: Callable[[Upload], T]) -> T:
        upload = self._write(last)
        finished = then(upload)
        upload.close()
        return finished


def _new_product(asked: ImportRequest, upload: Upload) -> NewProduct:
    return NewProduct(
        product=asked.product,
        obs_id=asked.obs_id,
        sha256=upload.sha256,
        size=upload.size,
        media_type=asked.media_type,
        filename=asked.filename,
        metadata=asked.metadata,
        provider=asked.provider,
        processing_id=asked.processing_id,
        attempt=asked.attempt,
        inputs=asked.inputs,
    )


def _too_large(max_bytes: int) -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"file: larger than {max_bytes} bytes (accepted: at most that; see max_upload_bytes)",
    )
