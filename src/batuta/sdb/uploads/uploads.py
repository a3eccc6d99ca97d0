"""Receives uploads in parts, imports those that are complete, and deletes those that expired."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from batuta.errors import one_line
from batuta.messaging import utc_now
from batuta.sdb.catalogue import ImportResult
from batuta.sdb.fields import ImportSubject
from batuta.sdb.quota import Reception
from batuta.sdb.recording import ImportRecorder
from batuta.sdb.request_body import RequestBody
from batuta.sdb.settings import SdbSettings
from batuta.sdb.store import SmallFile, StoreError
from batuta.sdb.uploads.appending import Appender, Part
from batuta.sdb.uploads.partial_file import (
    PartialFile,
    open_partial,
    upload_files,
    upload_path,
)
from batuta.sdb.uploads.protocol import FINGERPRINT, OFFSET, check_length, read_fields
from batuta.sdb.uploads.records import (
    UploadRecord,
    UploadRecords,
    UploadState,
    delete_upload,
    insert_upload,
    received_bytes,
    update_upload,
)
from batuta.sdb.uploads.turns import Turn, Turns
from batuta.service.database import UNAVAILABLE
from batuta.service.problems import ProblemError
from batuta.service.threads import ended_in_thread

LOG: Final = logging.getLogger(__name__)

COLLECT_EVERY_S: Final = 60.0
_MAY_PASS: Final = frozenset(
    {HTTPStatus.INSUFFICIENT_STORAGE, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.LOCKED}
)
"""Why an upload that is complete may be refused now, and imported later."""


class Uploads:
    """The uploads of an sdb.

    Of one upload, one request is served at a time. The one that comes last interrupts a request
    that is still receiving: its sender has lost that connection, and the sdb may not know it yet.

    Parameters
    ----------
    records : UploadRecords
        Reads them.
    recorder : ImportRecorder
        Imports those that are complete.
    settings : SdbSettings
        Their bounds.
    """

    def __init__(
        self, records: UploadRecords, recorder: ImportRecorder, settings: SdbSettings
    ) -> None:
        self._records = records
        self._recorder = recorder
        self._settings = settings
        self._folder = recorder.store.incoming
        self._turns = Turns()

    @property
    def max_bytes(self) -> int:
        """The largest file accepted."""
        return self._settings.max_upload_bytes

    async def create(
        self, owner: str | None, length: int, fields: Mapping[str, str]
    ) -> UploadRecord:
        """Create an upload of `length` bytes.

        Raises
        ------
        ProblemError
            If what is said of it would be refused, or it would pass a limit.
        """
        check_length(length, fields, self.max_bytes)
        asked = read_fields(fields)
        record = UploadRecord(
            id=uuid.uuid4().hex,
            owner=owner,
            fingerprint=fields.get(FINGERPRINT),
            length=length,
            fields=dict(fields),
            expires=self._expiry(),
            product=asked.product,
            obs_id=asked.obs_id,
        )
        async with self._counted(record):
            limit = self._settings.max_uploads
            insert = partial(insert_upload, record=record, at_most=limit)
            if not await self._recorder.committer.commit(insert):
                raise ProblemError(
                    HTTPStatus.INSUFFICIENT_STORAGE,
                    f"store: max_uploads: {limit} uploads wait to be resumed (accepted: at most "
                    "that); nothing was recorded",
                )
        return record if length else await self.find(owner, record.id)

    async def find_all(self, owner: str | None, fingerprint: str | None) -> list[UploadState]:
        """Return uploads of `owner`, without their products; raises nothing of its own."""
        found = await run_in_threadpool(self._records.find_all, owner, fingerprint)
        now = utc_now()
        return [each.state() for each in found if each.expires >= now]

    async def find(self, owner: str | None, upload_id: str) -> UploadRecord:
        """Return an upload, once nobody adds to it; what is complete is imported.

        Raises
        ------
        ProblemError
            404 if `owner` has no such upload, 410 if it has expired. If it is complete, and is
            refused.
        StoreError
            If it is complete, and cannot be stored.
        """
        async with self._turn(owner, upload_id) as (turn, record):
            return await self._settled(turn, record)

    async def state(self, owner: str | None, upload_id: str) -> UploadState:
        """Return what its owner sees of an upload, with its product; raises as `find`."""
        record = await self.find(owner, upload_id)
        if record.version is None:
            return record.state()
        look_up = self._recorder.catalogue.look_up
        identity = record.product, record.obs_id, record.version
        return record.state(await run_in_threadpool(look_up, *identity))

    async def append(
        self, owner: str | None, upload_id: str, part: Part, body: RequestBody
    ) -> UploadRecord:
        """Append a part, and import the upload once it is complete.

        Raises
        ------
        ProblemError
            As `find`; 409 if the part does not begin where the upload goes on, or another request
            has interrupted this one; 413 if it is too long; 507 if it would pass a limit.
        ChecksumError
            If the part has another digest than was told; nothing of it is kept.
        ClientDisconnect
            If the client disconnected; what was received is kept.
        StoreError
            If the store cannot write it.
        """
        async with self._turn(owner, upload_id) as (turn, found):
            record = found
            if part.start != record.offset:
                raise ProblemError(
                    HTTPStatus.CONFLICT,
                    f"{OFFSET}: {part.start} (accepted: {record.offset}, where the upload goes on)",
                    {OFFSET: str(record.offset)},
                )
            if record.version is None and not record.is_complete:
                async with self._counted(record) as reception:
                    record = await self._append(turn, record, part, body, reception)
            if part.announced > record.length - part.start:
                raise ProblemError(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    f"body: the upload has {record.length} bytes, and is complete",
                )
            return await self._settled(turn, record)

    async def give_quicklook(self, owner: str | None, upload_id: str, content: bytes) -> None:
        """Keep a picture of the upload, to be imported with it.

        Raises
        ------
        ProblemError
            As `find`; 409 if it was imported, 422 if it is no picture that is accepted.
        """
        async with self._turn(owner, upload_id) as (_, record):
            if record.version is not None:
                raise ProblemError(HTTPStatus.CONFLICT, f"upload {upload_id}: was imported")
            await run_in_threadpool(self._recorder.describe_quicklook, content)
            await self._recorder.committer.commit(
                partial(update_upload, upload_id=upload_id, quicklook=content)
            )

    async def delete(self, owner: str | None, upload_id: str) -> None:
        """Delete an upload, with what was received of it; raises as `find`."""
        async with self._turn(owner, upload_id) as (turn, record):
            await self._delete(turn, record)

    def received_bytes(self) -> int:
        """Return the bytes that were received of uploads that are not complete. It blocks."""
        return self._records.received_bytes()

    def count(self) -> int:
        """Return how many there are that are not imported. It blocks."""
        return self._records.count()

    async def run(self) -> None:
        """Delete uploads that have expired, from time to time, until cancelled."""
        while True:
            collecting = asyncio.create_task(self.collect())
            try:
                # What is under way has threads, which use the database: they end before it closes.
                await asyncio.shield(collecting)
            except asyncio.CancelledError:
                await asyncio.gather(collecting, return_exceptions=True)
                raise
            except (*UNAVAILABLE, StoreError) as exc:
                LOG.warning("uploads that have expired cannot be deleted: %s", one_line(exc))
            await asyncio.sleep(COLLECT_EVERY_S)

    async def collect(self) -> None:
        """Delete uploads that have expired, and files that are older than any that could go on."""
        for upload_id in await run_in_threadpool(self._records.find_expired, utc_now()):
            if self._turns.is_taken(upload_id):
                continue
            async with self._turns.take(upload_id) as turn:
                found = await run_in_threadpool(self._records.find, upload_id)
                if found is None or found.expires >= utc_now():
                    continue
                try:
                    await self._delete(turn, found)
                except ProblemError:  # another process receives it still
                    continue
                except StoreError as exc:  # of this one: the others are deleted all the same
                    LOG.warning("upload %s cannot be deleted yet: %s", upload_id, one_line(exc))
                    continue
                _log_expired(found)
        await run_in_threadpool(self._remove_unknown)

    def _remove_unknown(self) -> None:
        """Remove the files that no record names, once none could go on.

        A record is there before its file, and is deleted after it: that of a file without one was
        lost, or it is of another sdb that has its records elsewhere.
        """
        oldest = time.time() - self._settings.upload_expires_s
        files = upload_files(self._folder)
        old = {name: path for name, path in files.items() if _is_older(path, oldest)}
        for name in old.keys() - self._records.known_among(list(old)):
            try:
                old[name].unlink(missing_ok=True)
            except OSError as exc:  # of this one: the others are deleted all the same
                LOG.warning("%s cannot be deleted yet: %s", old[name], exc)
                continue
            LOG.info("%s: deleted a part of an upload that no record names", old[name])

    @asynccontextmanager
    async def _turn(
        self, owner: str | None, upload_id: str
    ) -> AsyncIterator[tuple[Turn, UploadRecord]]:
        """Interrupt who adds to an upload, and yield its record, for nobody else to change."""
        async with self._turns.take(upload_id) as turn:
            record = await run_in_threadpool(self._find, owner, upload_id)
            yield turn, record

    def _find(self, owner: str | None, upload_id: str) -> UploadRecord:
        record = self._records.find(upload_id)
        if record is None or record.owner != owner:
            # Not 403: that it is there is nothing to others.
            raise ProblemError(HTTPStatus.NOT_FOUND, f"upload {upload_id}: not found")
        if record.expires < utc_now():
            when = f"{record.expires:%Y-%m-%d %H:%M:%S}"
            raise ProblemError(HTTPStatus.GONE, f"upload {upload_id}: has expired on {when} UTC")
        if record.version is not None:
            return record
        path = upload_path(self._folder, upload_id)
        size = path.stat().st_size if path.exists() else 0
        if size >= record.received:
            return record
        # Those bytes are lost, or were received in a folder of another sdb: they are sent again.
        return replace(record, received=size, appended="")

    async def _append(
        self,
        turn: Turn,
        record: UploadRecord,
        part: Part,
        body: RequestBody,
        reception: Reception,
    ) -> UploadRecord:
        with self._recorder.metrics.receiving.track_inprogress():
            async with self._open(turn, record) as file:
                if part.start:
                    self._recorder.metrics.resumed.inc()
                # What is after that was not known to be on the disk.
                await ended_in_thread(file.truncate, record.received)
                await ended_in_thread(_hash_all, file)
                appender = Appender(file, record, part, reception, self._save)
                try:
                    await appender.receive(body, turn.interrupted)
                finally:
                    turn.hashed = None
                    record = await appender.finish()
                    turn.hashed = file.hashed
        return record

    async def _settled(self, turn: Turn, record: UploadRecord) -> UploadRecord:
        """Import an upload if it is complete."""
        if record.version is not None or not record.is_complete:
            return record
        try:
            asked = read_fields(record.fields, record.appended)
            picture = None
            if record.quicklook is not None:
                describe = self._recorder.describe_quicklook
                picture = await run_in_threadpool(describe, record.quicklook)
            async with self._open(turn, record) as file:
                async with self._counted(record) as reception:
                    store = partial(self._recorder.store_file, asked, picture, reception)
                    small = record.file_bytes <= self._settings.small_file_bytes
                    received = SmallFile(await ended_in_thread(file.read)) if small else file
                    new, repeated = await ended_in_thread(store, received)
                # Not counted any more: once it is recorded, it would be twice.
                result = await self._recorder.record(
                    new, repeated, record.quicklook, partial(_mark_imported, record)
                )
                await ended_in_thread(file.remove)
        except ProblemError as exc:
            self._recorder.metrics.refused.labels(exc.status.value).inc()
            if exc.status not in _MAY_PASS:
                # As it is refused whenever it is asked for again, nothing of it is kept.
                await self._delete(turn, record)
            raise
        turn.hashed = None
        return replace(record, version=result.stored.version, is_new=result.is_new)

    async def _save(self, record: UploadRecord) -> UploadRecord:
        """Record how much was received; it may be resumed for some time from now on."""
        record = replace(record, expires=self._expiry())
        save = partial(
            update_upload,
            upload_id=record.id,
            received=record.received,
            appended=record.appended,
            expires=record.expires,
        )
        await self._recorder.committer.commit(save)
        return record

    async def _delete(self, turn: Turn, record: UploadRecord) -> None:
        """Delete first the bytes, then the record: none is without a record."""
        with _told_if_locked(record.id):
            await run_in_threadpool(_remove, self._folder, record.id)
        delete = partial(delete_upload, upload_id=record.id)
        await self._recorder.committer.commit(delete)
        turn.hashed = None

    @asynccontextmanager
    async def _counted(self, record: UploadRecord) -> AsyncIterator[Reception]:
        """Count an upload as others are, with what was received of those that are not complete."""
        others = partial(received_bytes, besides=record.id)
        subject = ImportSubject(
            product=record.product,
            obs_id=record.obs_id,
            processing_id=read_fields(record.fields).processing_id,
        )
        async with self._recorder.counted(
            subject, record.file_bytes, record.received, others
        ) as reception:
            yield reception

    @asynccontextmanager
    async def _open(self, turn: Turn, record: UploadRecord) -> AsyncIterator[PartialFile]:
        opening = partial(open_partial, self._folder, record.id, turn.hashed)
        with _told_if_locked(record.id):
            file = await run_in_threadpool(opening)
        try:
            yield file
        finally:
            await run_in_threadpool(file.close)

    def _expiry(self) -> datetime:
        return utc_now() + timedelta(seconds=self._settings.upload_expires_s)


def _hash_all(file: PartialFile) -> None:
    file.hash_all()


def _mark_imported(record: UploadRecord, connection: sa.Connection, recorded: ImportResult) -> None:
    """Record what an upload was imported as, in the transaction that does it."""
    stored = recorded.stored
    update_upload(
        connection, record.id, version=stored.version, is_new=recorded.is_new, quicklook=None
    )


def _remove(folder: Path, upload_id: str) -> None:
    with closing(open_partial(folder, upload_id, None)) as file:
        file.remove()


@contextmanager
def _told_if_locked(upload_id: str) -> Iterator[None]:
    try:
        yield
    except StoreError as exc:
        if isinstance(exc.__cause__, BlockingIOError):
            detail = f"upload {upload_id}: another sdb receives it (try again later)"
            raise ProblemError(HTTPStatus.LOCKED, detail) from exc
        raise


def _is_older(path: Path, oldest: float) -> bool:
    try:
        return path.stat().st_mtime < oldest
    except FileNotFoundError:
        return False


def _log_expired(record: UploadRecord) -> None:
    if record.version is None:
        LOG.info(
            "an upload of %s of %s has expired: %d of %d bytes were received",
            record.product,
            record.obs_id,
            record.offset,
            record.length,
        )
