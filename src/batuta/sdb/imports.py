"""An import: receive the file, verify it, store it, then commit its record and announcement."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final, TypeVar

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from batuta.quicklook import MAX_GIVEN_BYTES, CannotDrawError, check_image
from batuta.sdb.catalogue import Catalogue, ImportResult
from batuta.sdb.contents import Contents
from batuta.sdb.fields import (
    MAX_FIELDS_BYTES,
    QUICKLOOK,
    BodyDecoder,
    ImportRequest,
    ImportSubject,
)
from batuta.sdb.metrics import SdbMetrics
from batuta.sdb.new_product import NewProduct
from batuta.sdb.outbox import Announcement
from batuta.sdb.quicklook_records import NewQuicklook
from batuta.sdb.quota import Quota, Reception
from batuta.sdb.store import ProductStore, SmallFile, StoreError, Upload, file_errors
from batuta.service.bodies import BODY_EXTENSION, BUFFER_BYTES, BodyReceiver, Chunk
from batuta.service.committer import Committer
from batuta.service.problems import ProblemError

LOG: Final = logging.getLogger(__name__)

WRITE_BYTES: Final = BUFFER_BYTES // 2
"""The file is written and hashed in chunks of at least this size: less than a buffer of a body, so
that what is in one is written before that is used again."""
MAX_DRAIN_BYTES: Final = 64 * 2**20
"""How much of a refused body is still read, so that its sender gets to read the answer."""
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
    store, catalogue
        Where bytes and records go.
    contents : Contents
        Keeps quicklooks.
    committer : Committer
        Commits records; those of concurrent imports share a commit.
    metrics : SdbMetrics
        Counts them.
    max_upload_bytes : int
        The largest file accepted.
    quota : Quota
        Refuses what passes a limit.
    small_file_bytes : int
        The largest file that is kept in the database, committed with its record.
    announce : callable
        Called with each new row of the outbox, once it is committed.
    """

    store: ProductStore
    catalogue: Catalogue
    contents: Contents
    committer: Committer
    metrics: SdbMetrics
    max_upload_bytes: int
    quota: Quota
    small_file_bytes: int
    announce: Callable[[Announcement], None]

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
        body = _Body(request)
        with self.metrics.receiving.track_inprogress():
            try:
                return await self._import_upload(request, body, decoding)
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

    async def _import_upload(
        self, request: Request, body: "_Body", decoding: Decoding
    ) -> ImportResult:
        self._check_content_length(request)
        decoder = decoding(request)
        at_least = max(_announced_bytes(request) - decoder.max_besides_bytes, 0)
        if at_least <= self.small_file_bytes:
            # In memory until its record is committed, which is refused where it repeats nothing.
            at_least = 0
        async with (
            self._counted(decoder.subject, at_least) as reception,
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
                picture = await run_in_threadpool(self._describe_quicklook, asked.quicklook)
            new, recorded = await writer.finish(
                decoder.take(), partial(self._store, asked, picture, reception)
            )
        if recorded is None and asked.quicklook is not None:
            recorded = await run_in_threadpool(self._store_quicklook, new, asked.quicklook)
        if recorded is None:
            recorded = await self.committer.commit_item(self.catalogue.record_all, new)
        if recorded.announcement is not None:
            self.announce(recorded.announcement)
        self._count(recorded, new)
        return recorded

    def _store(
        self,
        asked: ImportRequest,
        picture: NewQuicklook | None,
        reception: Reception,
        received: Upload | SmallFile,
    ) -> tuple[NewProduct, ImportResult | None]:
        """Store what was received, unless it repeats an import: then return that one too.

        A small file is stored with its record, where a repeat is found as well.
        """
        if asked.sha256 is not None and asked.sha256.lower() != received.sha256:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"file: its SHA-256 is {received.sha256}, not {asked.sha256} as declared; "
                "nothing was recorded",
            )
        new = _new_product(asked, picture, received)
        if isinstance(received, SmallFile):
            return new, None
        repeated = self.catalogue.find_repeated(new)
        if repeated is None:
            reception.complete(new.product, new.recorded_bytes)
            self.store.put(received)
        return new, repeated

    def _describe_quicklook(self, content: bytes) -> NewQuicklook:
        kept = self.contents.describe(content)
        return NewQuicklook(
            sha256=kept.sha256,
            size=kept.size,
            content=kept.content,
            media_type=_media_type_of(content),
        )

    def _store_quicklook(self, new: NewProduct, content: bytes) -> ImportResult | None:
        """Store the quicklook of an import, unless that repeats another: then return that one.

        A small one is stored with its record, where a repeat is found as well.
        """
        if new.quicklook is None or new.quicklook.content is not None:
            return None
        repeated = self.catalogue.find_repeated(new)
        if repeated is None:
            self.contents.store(content)
        return repeated

    @asynccontextmanager
    async def _counted(
        self, subject: ImportSubject | None, at_least: int
    ) -> AsyncIterator[Reception]:
        """Count the file among those that are being received, unless it would be too much."""
        product = subject.product if subject is not None else None
        with self.quota.receiving(product, at_least) as reception:
            if self.quota.is_limited:
                await run_in_threadpool(self._check, reception, subject)
            yield reception

    def _check(self, reception: Reception, subject: ImportSubject | None) -> None:
        """Refuse what passes a limit, unless it may have been imported before."""
        try:
            reception.check()
        except ProblemError:
            if subject is None or not self.catalogue.may_repeat(subject, reception.size):
                raise
            reception.may_repeat = True
            reception.check()

    @asynccontextmanager
    async def _receiving(self, reception: Reception) -> AsyncIterator["_UploadWriter"]:
        writer = _UploadWriter(self.store, reception, self.max_upload_bytes, self.small_file_bytes)
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
        besides = MAX_FIELDS_BYTES + MAX_GIVEN_BYTES
        if _announced_bytes(request) > self.max_upload_bytes + besides:
            raise _too_large(self.max_upload_bytes)


class _Body:
    """The streamed body of a request, which knows whether its end was received."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._ended = False
        self._receiver: BodyReceiver | None = None
        self._started = False

    async def chunks(self) -> AsyncIterator[Chunk]:
        """Yield chunks; raise `ClientDisconnect` if the client goes away before the end.

        One may be used until the next but one is received.
        """
        if not self._started:
            self._started = True
            receive = self._request.scope.get("extensions", {}).get(BODY_EXTENSION)
            self._receiver = receive() if receive is not None else None
        while not self._ended:
            yield await self._next_chunk()

    async def _next_chunk(self) -> Chunk:
        if self._receiver is not None:
            view = await self._receiver.next_chunk()
            self._ended = not view
            return view
        message = await self._request.receive()
        if message["type"] == "http.disconnect":
            self._ended = True
            raise ClientDisconnect
        self._ended = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body

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

    def _count(self, pieces: Sequence[Chunk]) -> None:
        self._total_bytes += sum(map(len, pieces))
        if self._total_bytes > self._max_bytes:
            raise _too_large(self._max_bytes)

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


def _announced_bytes(request: Request) -> int:
    """Return how long the body is announced to be; 0 if it is not."""
    announced = request.headers.get("content-length", "")
    return int(announced) if announced.isdecimal() else 0


def _new_product(
    asked: ImportRequest, picture: NewQuicklook | None, received: Upload | SmallFile
) -> NewProduct:
    return NewProduct(
        product=asked.product,
        obs_id=asked.obs_id,
        sha256=received.sha256,
        size=received.size,
        media_type=asked.media_type,
        filename=asked.filename,
        metadata=asked.metadata,
        provider=asked.provider,
        processing_id=asked.processing_id,
        attempt=asked.attempt,
        inputs=asked.inputs,
        stage=asked.stage,
        work_class=asked.work_class,
        code=asked.code,
        graph_version=asked.graph_version,
        content=received.content if isinstance(received, SmallFile) else None,
        quicklook=picture,
    )


def _media_type_of(quicklook: bytes) -> str:
    try:
        return check_image(quicklook).media_type
    except CannotDrawError as exc:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY, f"{QUICKLOOK}: {exc}; nothing was recorded"
        ) from exc


def _too_large(max_bytes: int) -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"file: larger than {max_bytes} bytes (accepted: at most that; see max_upload_bytes)",
    )
