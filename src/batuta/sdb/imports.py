"""An import: its file received, checked, stored; its record made; its announcement called for."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from batuta.sdb.catalogue import Catalogue, NewProduct, Recorded
from batuta.sdb.form import MAX_FIELDS_BYTES, ImportForm, ImportRequest
from batuta.sdb.metrics import SdbMetrics
from batuta.sdb.store import Store, StoreError, Upload
from batuta.service.committer import Committer
from batuta.service.problems import ProblemError

LOG: Final = logging.getLogger(__name__)

WRITE_BYTES: Final = 2**20
"""The file goes to the disk, and to its hash, in pieces of about this size."""
HEARD_OUT_BYTES: Final = 64 * 2**20
"""How much more of a refused body is read, so that its sender is free to read the refusal."""
CLIENT_CLOSED_REQUEST: Final = 499


class CutUploadError(Exception):
    """The sender went away half-way; nobody is there to be answered."""


@dataclass(frozen=True, kw_only=True)
class Importer:
    """Takes imports in.

    Parameters
    ----------
    store, catalogue
        Where bytes and records go.
    committer : Committer
        Commits the records, those of several imports together.
    metrics : SdbMetrics
        Counts them.
    max_upload_bytes : int
        The largest file accepted.
    announce : callable
        Told when there is something new in the outbox.
    """

    store: Store
    catalogue: Catalogue
    committer: Committer
    metrics: SdbMetrics
    max_upload_bytes: int
    announce: Callable[[], None]

    async def take_in(self, request: Request) -> Recorded:
        """Import what `request` carries; nothing is recorded unless all of it is right.

        Raises
        ------
        ProblemError
            If it is refused.
        CutUploadError
            If its sender went away half-way.
        OSError, StoreError
            If the store cannot take it.
        """
        body = _Body(request)
        with self.metrics.receiving.track_inprogress():
            try:
                return await self._take_in(request, body)
            except ProblemError as exc:
                self.metrics.refused.labels(exc.status.value).inc()
                await body.hear_out()
                raise
            except (OSError, StoreError):
                await body.hear_out()
                raise
            except ClientDisconnect as exc:
                self.metrics.cut.inc()
                LOG.warning("an import was cut half-way by its sender: nothing recorded of it")
                raise CutUploadError from exc

    async def _take_in(self, request: Request, body: "_Body") -> Recorded:
        self._refuse_announced_size(request)
        form = ImportForm(request.headers)
        async with self._receiving() as writer:
            async for chunk in body.chunks():
                form.feed(chunk)
                if form.waiting_bytes >= WRITE_BYTES:
                    await writer.write(form.take())
            asked = form.finish()
            upload = await writer.keep(form.take(), asked.sha256)
        new = _new_product(asked, upload)
        recorded = await self.committer.commit(partial(self.catalogue.record, new=new))
        self._count(recorded)
        self.announce()
        return recorded

    @asynccontextmanager
    async def _receiving(self) -> AsyncIterator["_Writer"]:
        writer = _Writer(self.store, self.max_upload_bytes)
        try:
            yield writer
        finally:
            await writer.stop()

    def _count(self, recorded: Recorded) -> None:
        if recorded.is_new:
            self.metrics.imports.inc()
            self.metrics.imported_bytes.inc(recorded.stored.size)
        else:
            self.metrics.repeats.inc()

    def _refuse_announced_size(self, request: Request) -> None:
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self.max_upload_bytes + MAX_FIELDS_BYTES:
            raise _too_large(self.max_upload_bytes)


class _Body:
    """The body of a request, as it comes; it knows when it has ended."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._ended = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """Return what comes; raise `ClientDisconnect` if the sender goes away before the end."""
        while not self._ended:
            message = await self._request.receive()
            if message["type"] == "http.disconnect":
                self._ended = True
                raise ClientDisconnect
            self._ended = not message.get("more_body", False)
            yield message.get("body", b"")

    async def hear_out(self) -> None:
        """Read on a little: a sender cut off while it writes may never see why."""
        heard_bytes = 0
        with suppress(ClientDisconnect):
            async for chunk in self.chunks():
                heard_bytes += len(chunk)
                if heard_bytes > HEARD_OUT_BYTES:
                    return


class _Writer:
    """Writes an upload in a thread, one piece while the next is being received.

    A small file comes in one piece, and costs one call of a thread for all that is done to it.
    """

    def __init__(self, store: Store, max_bytes: int) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._total_bytes = 0
        self._upload: Upload | None = None
        self._writing: asyncio.Task[Upload] | None = None

    async def write(self, pieces: list[bytes]) -> None:
        """Begin to write `pieces`, once those before are written."""
        self._count(pieces)
        await self._settle()
        self._writing = asyncio.create_task(run_in_threadpool(self._write, pieces))

    async def keep(self, last: list[bytes], declared_sha256: str | None) -> Upload:
        """Write the `last` pieces, and return once the store has taken the whole file."""
        self._count(last)
        await self._settle()
        return await run_in_threadpool(self._keep, last, declared_sha256)

    async def stop(self) -> None:
        """Close the upload, once nothing writes it any more."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        if self._upload is not None and not self._upload.closed:
            await run_in_threadpool(self._upload.close)

    async def _settle(self) -> None:
        """Wait for what is being written."""
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
        self._upload.write(pieces)
        return self._upload

    def _keep(self, last: list[bytes], declared_sha256: str | None) -> Upload:
        upload = self._write(last)
        if declared_sha256 is not None and declared_sha256.lower() != upload.sha256:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"file: its SHA-256 is {upload.sha256}, not {declared_sha256} as declared; "
                "nothing was recorded",
            )
        self._store.keep(upload)
        upload.close()
        return upload


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
        inputs=asked.inputs,
    )


def _too_large(max_bytes: int) -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"file: larger than {max_bytes} bytes (accepted: at most that; see max_upload_bytes)",
    )
