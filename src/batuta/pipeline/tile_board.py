"""What a service knows of the tiles of a processing: now, and what changed since."""

import gzip
import os
import time
from array import array
from bisect import bisect_right
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from batuta.pipeline.messages import TilesChanged, TilesPlanned
from batuta.pipeline.retention import RetentionFolder
from batuta.pipeline.runner import ProcessingRun
from batuta.pipeline.tile_codes import (
    MAX_GRIDS,
    MAX_TILES,
    MAX_WORKERS,
    TileChange,
    TileGridRecord,
    TileState,
    decode_changes,
    decode_present,
    encode_bytes,
    encode_changes,
)

MAX_REMEMBERED: Final = 65_536
"""Changes that are remembered, four bytes each; whoever has not asked for longer gets all."""
_SEQUENCES_PER_S: Final = 1_000_000
_FORMAT: Final = "batuta-tiles-1"


class TilesReport(BaseModel):
    """Answer to ``GET /processing/{id}/tiles``: all that is known of tiles, or what changed.

    Attributes
    ----------
    attempt : int
        The attempt whose tiles they are.
    seq : int
        To be asked for next, as ``since``.
    full : bool
        Whether it tells all, rather than what changed.
    ended : bool
        Whether nothing changes any more: a tile that runs was running when the processing ended.
    grids : tuple or None
        Where the tiles lie; None where it tells what changed.
    first_worker, workers
        The names of workers from this number on, those before known already.
    states, times, memories, tile_workers : str or None
        Of each tile, base64: one byte a tile, two for the number of its worker (little-endian).
    changes : str or None
        The tiles that changed, base64: nine bytes each.
    """

    model_config = ConfigDict(frozen=True)

    format: str = _FORMAT
    attempt: int
    seq: int
    full: bool
    ended: bool
    grids: tuple[TileGridRecord, ...] | None = None
    first_worker: int = 1
    workers: tuple[str, ...] = ()
    states: str | None = None
    times: str | None = None
    memories: str | None = None
    tile_workers: str | None = None
    changes: str | None = None


class TileBoard:
    """The tiles of one run of a processing, five bytes each.

    Its sequence numbers start at the time when it was made: those of a later run are higher than
    any of an earlier one, so that whoever asks with a number of that gets all.

    Parameters
    ----------
    attempt : int
        The attempt that the run belongs to.
    now_s : float
        Unix time.
    """

    def __init__(self, attempt: int, now_s: float) -> None:
        self.attempt = attempt
        self.grids: list[TileGridRecord] = []
        self.seq = int(now_s) * _SEQUENCES_PER_S
        self._planned_seq = self.seq
        """Of the last grid: whoever knows less must be told all."""
        self._remembered_seq = self.seq
        """The change after this one is the first in `_changed`."""
        self._changed = array("I")
        self._states = bytearray()
        self._times = bytearray()
        self._memories = bytearray()
        self._tile_workers = array("H")
        self._workers: list[str] = []
        self._worker_seqs = array("q")

    def __len__(self) -> int:
        return len(self._states)

    def plan(self, message: TilesPlanned) -> None:
        """Add a grid of tiles; one too many is left out.

        Raises
        ------
        ValueError
            If the message contradicts itself.
        """
        cells = message.grid.rows * message.grid.cols
        if len(self.grids) >= MAX_GRIDS or len(self) + cells > MAX_TILES:
            return
        self._states += decode_present(message.present, cells)  # 0 is ABSENT, 1 is WAITING
        self._times += bytes(cells)
        self._memories += bytes(cells)
        self._tile_workers.frombytes(bytes(2 * cells))
        self.grids.append(message.grid)
        self.seq += 1
        self._planned_seq = self._remembered_seq = self.seq
        del self._changed[:]

    def change(self, message: TilesChanged) -> None:
        """Record what became of tiles; what is no tile of a known grid is left out.

        Raises
        ------
        ValueError
            If the message cannot be decoded.
        """
        for name in message.workers[: MAX_WORKERS - len(self._workers)]:
            self._workers.append(name)
            self._worker_seqs.append(self.seq + 1)
        for tile, worker, state, time_code, memory_code in decode_changes(message.changes):
            if tile >= len(self):
                continue
            self._states[tile] = state
            self._times[tile] = time_code
            self._memories[tile] = memory_code
            self._tile_workers[tile] = worker if worker <= len(self._workers) else 0
            self._changed.append(tile)
            self.seq += 1
        if len(self._changed) > 2 * MAX_REMEMBERED:
            dropped = len(self._changed) - MAX_REMEMBERED
            del self._changed[:dropped]
            self._remembered_seq += dropped

    def count(self, state: TileState) -> int:
        """Return how many tiles are in a state."""
        return sum(each & 0x3F == state for each in self._states)

    def report(self, since: int | None = None, *, ended: bool = False) -> TilesReport:
        """Return what changed after number `since`; all that is known, if that is not known.

        Parameters
        ----------
        since : int, optional
            The `seq` of an earlier report. One that is too old, of an earlier run or beyond the
            last one is not known. None: all.
        ended : bool
            Whether nothing will change any more.
        """
        if since is None or not self._remembered_seq <= since <= self.seq:
            return self._whole(ended=ended)
        tiles = sorted(set(self._changed[since - self._remembered_seq :]))
        if len(tiles) > len(self) // 2:
            return self._whole(ended=ended)
        known = bisect_right(self._worker_seqs, since)
        return TilesReport(
            attempt=self.attempt,
            seq=self.seq,
            full=False,
            ended=ended,
            first_worker=known + 1,
            workers=tuple(self._workers[known:]),
            changes=encode_changes([self._tile(each) for each in tiles]),
        )

    def _tile(self, tile: int) -> TileChange:
        return TileChange(
            tile,
            self._tile_workers[tile],
            self._states[tile],
            self._times[tile],
            self._memories[tile],
        )

    def _whole(self, *, ended: bool) -> TilesReport:
        workers = array("H", self._tile_workers)
        if memoryview(b"\1\0").cast("H")[0] != 1:
            workers.byteswap()
        return TilesReport(
            attempt=self.attempt,
            seq=self.seq,
            full=True,
            ended=ended,
            grids=tuple(self.grids),
            workers=tuple(self._workers),
            states=encode_bytes(self._states),
            times=encode_bytes(self._times),
            memories=encode_bytes(self._memories),
            tile_workers=encode_bytes(workers.tobytes()),
        )


class TileBoards:
    """The boards of the processings that run, and what was recorded of those that ended.

    Parameters
    ----------
    retention : RetentionFolder
        Where they are recorded, until their logs are removed.
    """

    def __init__(self, retention: RetentionFolder) -> None:
        self._retention = retention
        self._live: dict[str, TileBoard] = {}

    def begin(self, run: ProcessingRun) -> TileBoard:
        """Return the board of a run that starts; that of an earlier run is dropped."""
        board = self._live[run.key] = TileBoard(run.attempt, time.time())
        with suppress(FileNotFoundError):
            self._retention.tiles(run.key).unlink()
        return board

    def end(self, run: ProcessingRun) -> None:
        """Record the tiles of a run that has ended, if it had any.

        Raises
        ------
        OSError
            If they cannot be recorded.
        """
        board = self._live[run.key]
        try:
            if board.grids:
                content = board.report(ended=True).model_dump_json().encode()
                _write(self._retention.tiles(run.key), gzip.compress(content, compresslevel=3))
        finally:
            del self._live[run.key]

    def live_report(self, key: str, since: int | None) -> TilesReport | None:
        """Return what is known of the tiles of a processing that runs; None of another."""
        board = self._live.get(key)
        return None if board is None else board.report(since)

    def recorded_report(self, key: str, since: int | None) -> TilesReport | None:
        """Read what was recorded of the tiles of a processing that has ended; None if nothing was.

        To be asked for after `live_report`: a board goes once its file is written.
        """
        try:
            content = gzip.decompress(self._retention.tiles(key).read_bytes())
        except FileNotFoundError:
            return None
        recorded = TilesReport.model_validate_json(content)
        if since != recorded.seq:
            return recorded
        return TilesReport(
            attempt=recorded.attempt,
            seq=recorded.seq,
            full=False,
            ended=True,
            first_worker=len(recorded.workers) + 1,
            changes="",
        )


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    draft.write_bytes(content)
    os.replace(draft, path)  # noqa: PTH105 - atomic
