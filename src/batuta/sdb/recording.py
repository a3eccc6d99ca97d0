"""What becomes of a file that was received: verified, stored, recorded, announced and counted."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from batuta.quicklook import CannotDrawError, check_image
from batuta.sdb.catalogue import Catalogue, ImportResult
from batuta.sdb.contents import Contents
from batuta.sdb.fields import QUICKLOOK, ImportRequest, ImportSubject
from batuta.sdb.metrics import SdbMetrics
from batuta.sdb.new_product import NewProduct
from batuta.sdb.outbox import Announcement
from batuta.sdb.quicklook_records import NewQuicklook
from batuta.sdb.quota import Quota, ReadOthers, Reception, nothing_received
from batuta.sdb.store import ProductStore, ReceivedFile, SmallFile
from batuta.service.committer import Committer
from batuta.service.problems import ProblemError

LOG: Final = logging.getLogger(__name__)

Also = Callable[[sa.Connection, ImportResult], None]
"""What is written in the transaction that records an import, once it is known."""


@dataclass(frozen=True, kw_only=True)
class ImportRecorder:
    """Records files that were received, however they came.

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
    quota : Quota
        Refuses what passes a limit.
    announce : callable
        Called with each new row of the outbox, once it is committed.
    """

    store: ProductStore
    catalogue: Catalogue
    contents: Contents
    committer: Committer
    metrics: SdbMetrics
    quota: Quota
    announce: Callable[[Announcement], None]

    @asynccontextmanager
    async def counted(
        self,
        subject: ImportSubject | None,
        at_least: int,
        written: int = 0,
        others: ReadOthers = nothing_received,
    ) -> AsyncIterator[Reception]:
        """Count a file among those that are being received, unless it would be too much.

        Parameters
        ----------
        subject : ImportSubject or None
            Whose version it is, if that is known.
        at_least : int
            How large it is at least, in bytes.
        written : int
            How much of it is on the disk already.
        others : callable
            Reads how many bytes were received of others, and are in no record yet.

        Raises
        ------
        ProblemError
            507, if it would pass a limit.
        """
        product = subject.product if subject is not None else None
        with self.quota.receiving(product, at_least) as reception:
            reception.written_bytes = written
            reception.read_others = others
            if self.quota.is_limited:
                await run_in_threadpool(self._check, reception, subject)
            yield reception

    def store_file(
        self,
        asked: ImportRequest,
        picture: NewQuicklook | None,
        reception: Reception,
        received: ReceivedFile | SmallFile,
    ) -> tuple[NewProduct, ImportResult | None]:
        """Store what was received, unless it repeats an import: then return that one too.

        A small file is stored with its record, where a repeat is found as well. It blocks.

        Raises
        ------
        ProblemError
            If it has another digest than was told, or may not be imported.
        StoreError
            If the store cannot write it.
        """
        if asked.sha256 is not None and asked.sha256.lower() != received.sha256:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"file: its SHA-256 is {received.sha256}, not {asked.sha256} as declared; "
                "nothing was recorded",
            )
        new = new_product(asked, picture, received)
        if isinstance(received, SmallFile):
            return new, None
        repeated = self.catalogue.find_repeated(new)
        if repeated is None:
            reception.complete(new.product, new.recorded_bytes)
            self.store.put(received)
        return new, repeated

    def describe_quicklook(self, content: bytes) -> NewQuicklook:
        """Return what is recorded of a picture. It blocks.

        Raises
        ------
        ProblemError
            422, if it is none that is accepted.
        """
        kept = self.contents.describe(content)
        return NewQuicklook(
            sha256=kept.sha256,
            size=kept.size,
            content=kept.content,
            media_type=_media_type_of(content),
        )

    async def record(
        self,
        new: NewProduct,
        repeated: ImportResult | None,
        quicklook: bytes | None = None,
        also: Also | None = None,
    ) -> ImportResult:
        """Record what was stored, unless it is known to repeat an import, announce and count it.

        Parameters
        ----------
        new : NewProduct
            What was stored.
        repeated : ImportResult or None
            The import that it repeats.
        quicklook : bytes, optional
            Its picture.
        also : callable, optional
            Writes in the same transaction.

        Raises
        ------
        ProblemError
            If it may not be imported.
        """
        if repeated is None and quicklook is not None:
            repeated = await run_in_threadpool(self._store_quicklook, new, quicklook)
        if also is not None:
            recorded = await self.committer.commit(partial(self._write, new, repeated, also))
        elif repeated is not None:
            recorded = repeated
        else:
            recorded = await self.committer.commit_item(self.catalogue.record_all, new)
        if recorded.announcement is not None:
            self.announce(recorded.announcement)
        self._count(recorded, new)
        return recorded

    def _write(
        self,
        new: NewProduct,
        repeated: ImportResult | None,
        also: Also,
        connection: sa.Connection,
    ) -> ImportResult:
        outcome = repeated or self.catalogue.record_all(connection, [new])[0]
        if isinstance(outcome, ProblemError):
            raise outcome
        also(connection, outcome)
        return outcome

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

    def _check(self, reception: Reception, subject: ImportSubject | None) -> None:
        """Refuse what passes a limit, unless it may have been imported before."""
        try:
            reception.check()
        except ProblemError:
            if subject is None or not self.catalogue.may_repeat(subject, reception.size):
                raise
            reception.may_repeat = True
            reception.check()

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


def new_product(
    asked: ImportRequest, picture: NewQuicklook | None, received: ReceivedFile | SmallFile
) -> NewProduct:
    """Return what is to be recorded of a file, by what was said of it."""
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


def too_large(max_bytes: int) -> ProblemError:
    """Return the problem of a file that is larger than any may be."""
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"file: larger than {max_bytes} bytes (accepted: at most that; see max_upload_bytes)",
    )
