"""Reports the tiles of an orchestrator as the progress of a processing, and each of them."""

import logging
import threading
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from batuta.orchestrator.events import (
    Event,
    Progress,
    RunStarted,
    TileDone,
    TileFailed,
    TileKept,
    TileLayout,
    TileOutcome,
    TileRetried,
    TileStarted,
)
from batuta.pipeline.messages import TilesChanged, TilesPlanned
from batuta.pipeline.tile_codes import (
    AGAIN,
    MAX_BOUNDS,
    MAX_GRIDS,
    MAX_TILES,
    MAX_WINDOWS,
    MAX_WORKERS,
    TileChange,
    TileGridRecord,
    TileState,
    encode_bytes,
    encode_changes,
    encode_present,
    memory_code,
    time_code,
)

LOG: Final = logging.getLogger(__name__)

SEND_EVERY_S: Final = 0.2
MAX_CHANGES: Final = 2_000
"""Of one message: 24 kB, which the buffer of a socket has room for once it can be written to."""
CLOSE_TIMEOUT_S: Final = 10.0
"""How long the last changes may take to be sent when the processing ends."""


class TileProgress:
    """An observer of an `Orchestrator` that reports how many of its tiles are done.

    Parameters
    ----------
    on_progress : callable
        Called with the number of tiles done, and their total.
    """

    def __init__(self, on_progress: Callable[[int, int], None]) -> None:
        self._on_progress = on_progress
        self._progress = Progress()

    def on_event(self, event: Event) -> None:
        """Update the progress, and report it if it has changed."""
        progress = self._progress.after(event)
        if progress != self._progress:
            self._progress = progress
            self._on_progress(progress.done, progress.total)


class TileSink(Protocol):
    """Where the tiles of a processing are told."""

    def send_tiles(self, message: TilesPlanned | TilesChanged) -> None:
        """Send a message; called in a thread of its own, it may wait."""


@dataclass(frozen=True)
class _Place:
    """The place of a grid among the tiles of a processing."""

    first: int
    rows: int
    cols: int


class TileSender:
    """Sends what becomes of the tiles of a processing, from all of its orchestrators.

    The computation only writes a few bytes. A thread sends what has changed since it sent last:
    however slow its reader, it holds each tile once, and never the computation.

    Parameters
    ----------
    sink : TileSink
        Where it is sent.
    """

    def __init__(self, sink: TileSink) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        """Of all below: the computation writes, the thread reads."""
        self._due = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._planned: list[TilesPlanned] = []
        """Grids that were not sent yet."""
        self._grids = 0
        self._states = bytearray()
        self._times = bytearray()
        self._memories = bytearray()
        self._tile_workers = array("H")
        self._is_changed = bytearray()
        self._changed = array("I")
        """Tiles to be sent, each once: those of which `_is_changed` is 1."""
        self._workers: dict[str, int] = {}
        self._new_workers: list[str] = []

    def plan(self, layout: TileLayout) -> _Place | None:
        """Send where the tiles of a dataset lie; return their place, None if they are too many."""
        cells = layout.rows * layout.cols
        with self._lock:
            first = len(self._states)
            if self._grids >= MAX_GRIDS or first + cells > MAX_TILES:
                LOG.info("the tiles of %s are not shown one by one: too many", layout.dataset_name)
                return None
            self._grids += 1
            present = encode_present(layout.present)
            self._planned.append(TilesPlanned(grid=grid_record(layout), present=present))
            self._states += layout.present  # 0 is ABSENT, 1 is WAITING
            self._times += bytes(cells)
            self._memories += bytes(cells)
            self._is_changed += bytes(cells)
            self._tile_workers.frombytes(bytes(2 * cells))
        self._wake()
        return _Place(first, layout.rows, layout.cols)

    def change(
        self, tile: int, state: TileState, worker: str | None = None, time: int = 0, memory: int = 0
    ) -> None:
        """Record what became of a tile; without a worker, the one that is known stays."""
        with self._lock:
            again = AGAIN if state is TileState.RETRIED else self._states[tile] & AGAIN
            self._states[tile] = state | again
            self._times[tile] = time
            self._memories[tile] = memory
            if worker is not None:
                self._tile_workers[tile] = self._number_of(worker)
            if not self._is_changed[tile]:
                self._is_changed[tile] = 1
                self._changed.append(tile)
        self._wake()

    def _number_of(self, worker: str) -> int:
        number = self._workers.get(worker)
        if number is None:
            if len(self._workers) >= MAX_WORKERS:
                return 0
            number = self._workers[worker] = len(self._workers) + 1
            self._new_workers.append(worker[:200])
        return number

    def _wake(self) -> None:
        if self._due.is_set():
            return
        if self._thread is None:
            # Not before there are tiles: a processing without any has no thread of ours.
            self._thread = threading.Thread(target=self._run, name="batuta-tiles", daemon=True)
            self._thread.start()
        self._due.set()

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._due.wait()
                self._due.clear()
                self._send_all()
                self._closing.wait(SEND_EVERY_S)
            self._send_all()
        except OSError:
            # The service has gone: this process is about to be ended.
            LOG.debug("tiles are not told any more", exc_info=True)

    def _send_all(self) -> None:
        while (message := self._next_message()) is not None:
            self._sink.send_tiles(message)

    def _next_message(self) -> TilesPlanned | TilesChanged | None:
        with self._lock:
            if self._planned:
                return self._planned.pop(0)
            if not self._changed:
                return None
            tiles = self._changed[:MAX_CHANGES]
            del self._changed[:MAX_CHANGES]
            for tile in tiles:
                self._is_changed[tile] = 0
            workers, self._new_workers = tuple(self._new_workers), []
            changes = [
                TileChange(
                    tile,
                    self._tile_workers[tile],
                    self._states[tile],
                    self._times[tile],
                    self._memories[tile],
                )
                for tile in tiles
            ]
        return TilesChanged(workers=workers, changes=encode_changes(changes))

    def close(self) -> None:
        """Send what is left."""
        if self._thread is None:
            return
        self._closing.set()
        self._due.set()
        self._thread.join(CLOSE_TIMEOUT_S)


class TileStates:
    """An observer of an `Orchestrator` that tells what becomes of each of its tiles.

    Parameters
    ----------
    sender : TileSender
        By which it is told.
    """

    def __init__(self, sender: TileSender) -> None:
        self._sender = sender
        self._places: dict[str, _Place | None] = {}
        """Of the datasets of the current run."""

    def on_event(self, event: Event) -> None:
        """Record the new state of a tile, to be sent."""
        if isinstance(event, TileDone):
            state = TileState.EMPTY if event.outcome is TileOutcome.EMPTY else TileState.DONE
            self._change(
                event, state, event.worker, time_code(event.wall_s), memory_code(event.peak_bytes)
            )
        elif isinstance(event, TileStarted):
            self._change(event, TileState.RUNNING, event.worker)
        elif isinstance(event, TileKept):
            self._change(event, TileState.KEPT)
        elif isinstance(event, TileRetried):
            self._change(event, TileState.RETRIED)
        elif isinstance(event, TileFailed):
            self._change(event, TileState.FAILED)
        elif isinstance(event, RunStarted):
            self._places = {
                each.dataset_name: self._sender.plan(each) for each in event.layouts if each.present
            }

    def _change(
        self,
        event: TileDone | TileStarted | TileKept | TileRetried | TileFailed,
        state: TileState,
        worker: str | None = None,
        time: int = 0,
        memory: int = 0,
    ) -> None:
        place = self._places.get(event.dataset_name)
        # Two datasets of one name are told apart by nothing: the tiles are those of the last.
        if place is not None and event.row < place.rows and event.col < place.cols:
            tile = place.first + event.row * place.cols + event.col
            self._sender.change(tile, state, worker, time, memory)


def grid_record(layout: TileLayout) -> TileGridRecord:
    """Return where the tiles of a dataset lie, as rows and columns where they lie so."""
    rows, cols = layout.rows, layout.cols
    record = TileGridRecord(dataset=layout.dataset_name[:200], rows=rows, cols=cols)
    windows = np.asarray(() if layout.windows is None else layout.windows)
    if windows.shape != (rows, cols, 4) or not windows.size:
        return record
    row_bounds, col_bounds = windows[:, :1, :2], windows[:1, :, 2:]
    if (windows[:, :, :2] == row_bounds).all() and (windows[:, :, 2:] == col_bounds).all():
        if rows + cols > MAX_BOUNDS:
            return record
        return record.model_copy(
            update={"row_bounds": _integers(row_bounds), "col_bounds": _integers(col_bounds)}
        )
    if rows * cols > MAX_WINDOWS:
        return record
    return record.model_copy(update={"windows": encode_bytes(windows.astype("<i4").tobytes())})


def _integers(bounds: Any) -> Sequence[int]:
    return tuple(int(each) for each in bounds.ravel())
