"""Receives a part of an upload: one piece is written while the next comes."""

import asyncio
import string
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from batuta.sdb.quota import Reception
from batuta.sdb.request_body import RequestBody
from batuta.sdb.store import file_errors
from batuta.sdb.uploads.partial_file import PartialFile
from batuta.sdb.uploads.protocol import OFFSET, Checksum
from batuta.sdb.uploads.records import UploadRecord
from batuta.service.bodies import BUFFER_BYTES, Chunk
from batuta.service.problems import ProblemError
from batuta.service.threads import ended_in_thread

WRITE_BYTES: Final = BUFFER_BYTES // 2
SAVE_BYTES: Final = 64 * 2**20
"""How much is received, at most, before it is flushed to the disk, and recorded that it is there:
what a power cut costs. A killed process loses no more."""

_DIGITS: Final = string.hexdigits.encode()


class ChecksumError(Exception):
    """A part has another digest than was told."""


@dataclass(frozen=True)
class Part:
    """A part of an upload.

    Attributes
    ----------
    start : int
        Where in the upload it begins.
    announced : int
        How many bytes it is said to have; 0 if that is not said.
    checksum : Checksum or None
        The digest that it must have.
    """

    start: int
    announced: int
    checksum: Checksum | None


class Appender:
    """Appends a part to an upload.

    Parameters
    ----------
    file : PartialFile
        What was received before.
    record : UploadRecord
        Its record.
    part : Part
        What comes.
    reception : Reception
        Counts it.
    save : callable
        Records how much is on the disk.
    """

    def __init__(
        self,
        file: PartialFile,
        record: UploadRecord,
        part: Part,
        reception: Reception,
        save: Callable[[UploadRecord], Awaitable[UploadRecord]],
    ) -> None:
        self._file = file
        self._record = record
        self._part = part
        self._reception = reception
        self._save = save
        self._appended = record.appended.encode()
        self._before = (file.size, self._appended, file.hashed.copy())
        self._checksum = part.checksum.new() if part.checksum is not None else None
        self._writing: asyncio.Task[None] | None = None
        self._is_verified = part.checksum is None

    @property
    def _received(self) -> int:
        return self._file.size + len(self._appended)

    async def receive(self, body: RequestBody, interrupted: asyncio.Event) -> None:
        """Receive the part, until another request interrupts this one.

        Raises
        ------
        ProblemError
            409 if it is interrupted, 413 if it is too long, 507 if it would pass a limit.
        ChecksumError
            If it has another digest than was told.
        ClientDisconnect
            If the client disconnected.
        StoreError
            If it cannot be written.
        """
        left = self._record.length - self._part.start
        pieces: list[Chunk] = []
        if self._part.announced > left:
            raise _too_long(self._record)
        try:
            async for chunk in body.chunks_until(interrupted):
                left -= len(chunk)
                if left < 0:
                    raise _too_long(self._record)
                pieces.append(chunk)
                if sum(map(len, pieces)) >= WRITE_BYTES:
                    await self._write(pieces)
                    pieces = []
        except ClientDisconnect:
            await self._write(pieces)
            raise
        await self._write(pieces)
        await self._wait()
        if body.is_cut_short:
            raise ProblemError(
                HTTPStatus.CONFLICT,
                f"upload {self._record.id}: another request goes on with it",
                {OFFSET: str(self._received), "Connection": "close"},
            )
        if self._part.checksum is not None and self._checksum is not None:
            if self._checksum.digest() != self._part.checksum.digest:
                raise ChecksumError(self._part.checksum.algorithm)
            self._is_verified = True

    async def finish(self) -> UploadRecord:
        """Flush to the disk what was received, and record it, however it has ended.

        What was to have a digest, and was not seen to have it, is forgotten.
        """
        if self._writing is not None:
            await asyncio.wait([self._writing])
        if not self._is_verified:
            size, self._appended, hashed = self._before
            await ended_in_thread(self._file.truncate_to, size, hashed)
        return await self._flush()

    async def _write(self, pieces: list[Chunk]) -> None:
        await self._wait()
        if self._is_verified and self._file.size - self._record.received >= SAVE_BYTES:
            await self._flush()
        # In this order, as a piece is valid until the next but one is received.
        self._writing = asyncio.create_task(run_in_threadpool(self._append, pieces))

    async def _wait(self) -> None:
        if self._writing is not None:
            # Not forgotten before it has ended, also where this is cancelled: see `finish`.
            await asyncio.shield(self._writing)
            self._writing = None

    def _append(self, pieces: list[Chunk]) -> None:
        for piece in pieces:
            view = memoryview(piece)
            if self._checksum is not None:
                self._checksum.update(view)
            of_file = view[: max(self._record.file_bytes - self._file.size, 0)]
            if of_file:
                self._reception.write(len(of_file))
                with file_errors():
                    self._file.write([of_file])
            self._appended += view[len(of_file) :]

    async def _flush(self) -> UploadRecord:
        await ended_in_thread(_sync, self._file)
        self._record = await self._save(
            replace(
                self._record,
                received=self._file.size,
                appended=_text_of(self._appended),
            )
        )
        return self._record


def _text_of(appended: bytes) -> str:
    """Return what may be a digest as text, a character for each byte, that databases can store.

    What is none is told once all of it is there.
    """
    return "".join(chr(each) if each in _DIGITS else "?" for each in appended)


def _sync(file: PartialFile) -> None:
    with file_errors():
        file.sync()


def _too_long(record: UploadRecord) -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"body: longer than what is left of the upload, which has {record.length} bytes; "
        "what follows was not kept",
    )
