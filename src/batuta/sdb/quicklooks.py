"""Quicklooks of versions: those that came with them, and those that are drawn when first asked for.

A drawing runs in a process of its own. What comes of it is recorded: a picture is drawn once, and
a file that cannot be drawn is not tried again by the same version of what draws. Until then nothing
is on the disk, so that an sdb that is killed meanwhile draws it at the next request. A drawing that
may have failed for what else the machine did is remembered for a time only, in memory.
"""

import asyncio
import logging
import time
from functools import partial
from typing import Final

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from batuta.errors import shortened
from batuta.quicklook import (
    DRAWER,
    CannotDrawError,
    CannotDrawNowError,
    Drawer,
    Kind,
    find_kind,
)
from batuta.quicklook.kinds import HEAD_BYTES
from batuta.quicklook.process import DrawingInterruptedError
from batuta.sdb.contents import Contents
from batuta.sdb.drawing_queue import DrawingQueue
from batuta.sdb.metrics import SdbMetrics
from batuta.sdb.quicklook_records import DrawnQuicklook, find_quicklook, record_drawn
from batuta.sdb.records import QuicklookState, StoredProduct
from batuta.sdb.store import DamagedObjectError
from batuta.service.committer import Committer
from batuta.service.database import reading

LOG: Final = logging.getLogger(__name__)

WAIT_S: Final = 2.0
"""How long a request waits for a picture that is being drawn: most are drawn by then."""
RETRY_AFTER_S: Final = 1
MAX_WAITING: Final = 500
"""Drawings that wait for a process; of more, those asked for longest ago are to be asked again."""
MAX_FETCHED_BYTES: Final = 2**30
"""The largest file that is fetched from a bucket to be drawn, or read again if it cannot be."""
TRY_AGAIN_AFTER_S: Final = 3600.0
"""How long it stays failed what took too long, or was killed by a system without memory."""
MAX_FAILED: Final = 10_000
"""Of those, how many are remembered."""
_MAX_PROBLEM: Final = 400
_PNG: Final = "image/png"

_Key = tuple[str, str, int]


class Quicklooks:
    """Finds the quicklooks of versions, and draws those that are missing.

    Parameters
    ----------
    engine, committer
        The database of the sdb.
    contents : Contents
        The bytes of products, and of pictures.
    metrics : SdbMetrics
        Counts what is drawn.
    processes : int
        How many processes draw at the same time; with 0, none is drawn.
    """

    def __init__(
        self,
        engine: sa.Engine,
        committer: Committer,
        contents: Contents,
        metrics: SdbMetrics,
        processes: int,
    ) -> None:
        self._engine = engine
        self._committer = committer
        self._contents = contents
        self._metrics = metrics
        self._drawer = Drawer() if processes else None
        self._queue = DrawingQueue(processes, MAX_WAITING)
        self._drawing: dict[_Key, asyncio.Task[DrawnQuicklook]] = {}
        self._failed: dict[_Key, tuple[float, DrawnQuicklook]] = {}
        """What may succeed later, and when it failed; the oldest first."""

    async def state(self, stored: StoredProduct, wait_s: float = WAIT_S) -> QuicklookState:
        """Return the state of a version's quicklook; if it has none, start to draw it.

        Waits for `wait_s` seconds at most. However many ask, it is drawn once.

        Raises
        ------
        StoreError
            If the store cannot be read, or written.
        """
        known = await run_in_threadpool(self._find, stored) or self._failed_lately(stored)
        if known is not None:
            return _state(stored, known)
        if _key(stored) not in self._drawing:
            try:
                kind = await self._kind(stored)
            except CannotDrawError as exc:
                return _without(stored, "none", str(exc))
            self._start(stored, kind)
        self._queue.ask_again(_key(stored))
        drawing = self._drawing[_key(stored)]
        done, _ = await asyncio.wait([drawing], timeout=wait_s)
        if done and not _is_interrupted(drawing):
            return _state(stored, drawing.result())
        return _without(stored, "drawing")

    async def read(self, ready: QuicklookState) -> bytes:
        """Return the picture of a quicklook that is ready; raises as `Contents.read`."""
        picture = _Picture(ready.sha256 or "", ready.size or 0)
        return await self._contents.read_all(picture)

    async def close(self) -> None:
        """End the drawings under way."""
        drawing = list(self._drawing.values())
        for each in drawing:
            each.cancel()
        if drawing:
            await asyncio.wait(drawing)

    def _find(self, stored: StoredProduct) -> DrawnQuicklook | None:
        """Return what is recorded and still counts."""
        with reading(self._engine) as connection:
            found = find_quicklook(connection, stored)
        if found is not None and found.sha256 is None and found.drawer != DRAWER:
            return None
        return found

    def _failed_lately(self, stored: StoredProduct) -> DrawnQuicklook | None:
        failed_at, drawn = self._failed.get(_key(stored), (0.0, None))
        if drawn is not None and time.monotonic() - failed_at >= TRY_AGAIN_AFTER_S:
            return None
        return drawn

    def _remember(self, stored: StoredProduct, drawn: DrawnQuicklook) -> None:
        self._failed.pop(_key(stored), None)
        self._failed[_key(stored)] = time.monotonic(), drawn
        if len(self._failed) > MAX_FAILED:
            del self._failed[next(iter(self._failed))]

    async def _kind(self, stored: StoredProduct) -> Kind:
        if self._drawer is None:
            raise CannotDrawError("this sdb draws none (quicklook_processes is 0)")
        # By its name first: what is of no kind is not read.
        find_kind(stored.filename, stored.media_type)
        head = await self._contents.read_all(stored, HEAD_BYTES)
        kind = find_kind(stored.filename, stored.media_type, head)
        if stored.size > MAX_FETCHED_BYTES and self._contents.path_in_store(stored) is None:
            raise CannotDrawError(
                f"it has {stored.size} bytes and is in a bucket (drawn: up to {MAX_FETCHED_BYTES})"
            )
        return kind

    def _start(self, stored: StoredProduct, kind: Kind) -> None:
        key = _key(stored)
        if key in self._drawing:  # since the beginning of its file was read
            return
        drawing = self._drawing[key] = asyncio.create_task(self._draw_in_turn(stored, kind))
        drawing.add_done_callback(partial(self._on_drawn, stored))

    async def _draw_in_turn(self, stored: StoredProduct, kind: Kind) -> DrawnQuicklook:
        # Nothing is fetched before its turn: copies of all that waits might fill the disk.
        async with self._queue.turn(_key(stored)):
            return await self._draw(stored, kind)

    async def _draw(self, stored: StoredProduct, kind: Kind) -> DrawnQuicklook:
        # Looked for again, now that nobody else draws it: it may have been recorded meanwhile.
        known = await run_in_threadpool(self._find, stored)
        if known is not None or self._drawer is None:
            return known or DrawnQuicklook()
        content = None
        try:
            async with self._contents.as_file(stored) as path:
                picture = await self._drawer.draw(kind, path)
        except CannotDrawError as exc:
            await self._require_intact(stored)
            problem = shortened(str(exc), _MAX_PROBLEM)
            drawn = DrawnQuicklook(problem=problem, drawer=DRAWER)
            self._metrics.not_drawn.inc()
            LOG.warning("%s: no quicklook: %s", _name(stored), problem)
            if isinstance(exc, CannotDrawNowError):
                self._remember(stored, drawn)
                return drawn
        else:
            kept = await run_in_threadpool(self._contents.keep, picture)
            content = kept.content
            drawn = DrawnQuicklook(
                sha256=kept.sha256, size=kept.size, media_type=_PNG, drawer=DRAWER
            )
            self._metrics.drawn.inc()
        await self._committer.commit(
            partial(record_drawn, stored=stored, drawn=drawn, content=content)
        )
        return drawn

    async def _require_intact(self, stored: StoredProduct) -> None:
        """Raise if its bytes are damaged: once they are repaired, it may be drawn.

        Of larger files, a second reading would take longer than a picture is worth.
        """
        if stored.size > MAX_FETCHED_BYTES:
            return
        digest = await self._contents.digest(stored)
        if digest != stored.sha256:
            raise DamagedObjectError(
                f"{_name(stored)}: damaged: its SHA-256 is {digest}, not {stored.sha256}"
            )

    def _on_drawn(self, stored: StoredProduct, task: "asyncio.Task[DrawnQuicklook]") -> None:
        self._drawing.pop(_key(stored), None)
        # Told here: who has asked may have stopped waiting.
        if not task.cancelled() and (exc := task.exception()) is not None:
            LOG.warning("%s: its quicklook could not be made: %s", _name(stored), exc)


class _Picture:
    def __init__(self, sha256: str, size: int) -> None:
        self.sha256 = sha256
        self.size = size


def _is_interrupted(task: "asyncio.Task[DrawnQuicklook]") -> bool:
    return task.cancelled() or isinstance(task.exception(), DrawingInterruptedError)


def _state(stored: StoredProduct, known: DrawnQuicklook) -> QuicklookState:
    if known.sha256 is None:
        return _without(stored, "failed", known.problem)
    return QuicklookState(
        product=stored.product,
        obs_id=stored.obs_id,
        version=stored.version,
        state="ready",
        origin="given" if known.drawer is None else "drawn",
        media_type=known.media_type,
        size=known.size,
        sha256=known.sha256,
    )


def _without(stored: StoredProduct, state: str, reason: str | None = None) -> QuicklookState:
    values = {"product": stored.product, "obs_id": stored.obs_id, "version": stored.version}
    return QuicklookState.model_validate({**values, "state": state, "reason": reason})


def _key(stored: StoredProduct) -> _Key:
    return stored.product, stored.obs_id, stored.version


def _name(stored: StoredProduct) -> str:
    return f"{stored.product} of {stored.obs_id}, version {stored.version}"
