"""One run: every registered tile is computed, then saved or replaced."""

import copy
import itertools
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from batuta.cluster import (
    AbstractCluster,
    ClusterBrokenError,
    ClusterStalledError,
    NoSpaceError,
    WorkerMemoryError,
)
from batuta.cluster.remote_error import detach
from batuta.cluster.tasks import Delayed
from batuta.cluster.tile_activity import TileCosts, TileStart
from batuta.datasets.errors import TileError
from batuta.errors import describe_error
from batuta.orchestrator.disk import find_no_space, own_writes
from batuta.orchestrator.errors import MAX_LISTED, RootCause, TileFailure, TilesFailedError
from batuta.orchestrator.events import (
    Event,
    RunEnded,
    RunStarted,
    TileDone,
    TileFailed,
    TileKept,
    TileLayout,
    TileOutcome,
    TileRetried,
    TileStarted,
)
from batuta.orchestrator.ordered_delivery import OrderedDelivery
from batuta.orchestrator.registry import RegisteredDataset
from batuta.orchestrator.resume.journal import TileRecord
from batuta.orchestrator.resume.run_record import NullRecord, RunRecord
from batuta.orchestrator.screen import LoggedTraceback

LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TileKey:
    """The position of a tile in a registered CarsDataset."""

    entry: RegisteredDataset
    row: int
    col: int

    def __str__(self) -> str:
        return f"{self.entry.name}[{self.row}, {self.col}]"


@dataclass
class UnfinishedTasks:
    """The delayed objects that have no result yet, each with the reason."""

    retryable: list[tuple[Any, RootCause]] = field(default_factory=list)
    permanent: list[tuple[Any, RootCause]] = field(default_factory=list)
    """Not tried again: the cluster ran it again alone already, because it exceeded the memory of
    all the workers; or the cluster can compute nothing any more."""
    stalled: bool = False
    """Whether no task ended for `task_timeout`."""

    @property
    def delayed(self) -> list[Any]:
        """The delayed objects to compute again."""
        return [delayed for delayed, _ in self.retryable]


class TileRun:
    """Delivers each computed tile to its dataset and files, and accounts for those that fail.

    All methods run in the thread of the program: one thread alone writes files, journals and
    manifests, and calls the observers, so that none of them needs a lock.

    Parameters
    ----------
    entries : iterable of RegisteredDataset
        The datasets to compute.
    delayed_type : type
        The cluster's type of delayed objects: a cell of any other type is a tile already.
    notify : callable
        Called with each event.
    finalize_tile : callable
        Called with a dataset and each computed tile; returns what to save or replace.
    record : RunRecord or NullRecord
        What earlier runs did, and what this one does.
    costs : TileCosts
        What tiles took, as far as the cluster measures it.
    """

    def __init__(
        self,
        entries: Iterable[RegisteredDataset],
        delayed_type: type,
        notify: Callable[[Event], None],
        finalize_tile: Callable[[RegisteredDataset, Any], Any],
        record: RunRecord | NullRecord,
        costs: TileCosts,
    ) -> None:
        self._delayed_type = delayed_type
        self._notify = notify
        self._finalize_tile = finalize_tile
        self._record = record
        self._costs = costs
        self._layouts: list[TileLayout] = []
        self._keys: dict[int, list[TileKey]] = {}
        """By id of a delayed object, the tiles that it computes."""
        self.failures: list[TileFailure] = []
        self.done = 0
        self.total = 0
        self.delayed: list[Any] = []
        """What to compute, in order, each once."""
        self._computed: list[tuple[Any, TileKey]] = []
        self._finished_before: list[tuple[TileRecord, TileKey]] = []
        self._ordered: dict[RegisteredDataset, OrderedDelivery[TileKey, Any]] = {}
        for entry in entries:
            self._classify_tiles(entry)

    def _classify_tiles(self, entry: RegisteredDataset) -> None:
        """Sort the cells: empty, finished by an earlier run, computed already, or delayed."""
        rows, cols = entry.dataset.shape
        finished = self._record.finished_tiles(entry)
        present = bytearray(rows * cols)
        for row, col in itertools.product(range(rows), range(cols)):
            cell, key = entry.dataset[row, col], TileKey(entry, row, col)
            if cell is None:
                if entry.saver is not None:
                    entry.saver.record_empty()
                continue
            self.total += 1
            present[row * cols + col] = 1
            if (tile_record := finished.get((row, col))) is not None:
                self._finished_before.append((tile_record, key))
                continue
            if entry.saver is not None and entry.dataset.final_function is not None:
                self._ordered.setdefault(entry, OrderedDelivery()).expect(key)
            if not isinstance(cell, self._delayed_type):
                self._computed.append((cell, key))
                continue
            if id(cell) not in self._keys:
                self.delayed.append(cell)
                if isinstance(cell, Delayed):
                    cell.tile = key  # named in the log of the worker
            self._keys.setdefault(id(cell), []).append(key)
        windows = getattr(entry.dataset, "tiling_grid", None)
        self._layouts.append(TileLayout(entry.name, rows, cols, bytes(present), windows))

    def start(self) -> None:
        """Report the start, and deliver the tiles that need no computing."""
        self._notify(RunStarted(self.total, tuple(self._layouts)))
        for tile_record, key in self._finished_before:
            self._restore(tile_record, key)
        self._finished_before.clear()
        for tile, key in self._computed:
            self._on_tile(tile, key)
        self._computed.clear()

    def _restore(self, tile_record: TileRecord, key: TileKey) -> None:
        entry, row, col = key.entry, key.row, key.col
        if entry.replaced:
            entry.dataset[row, col] = self._record.read_value(entry, row, col)
        outcome = TileOutcome(tile_record.outcome)
        if entry.saver is not None:
            entry.saver.restore_tile(
                row, col, tile_record.without, empty=outcome is TileOutcome.EMPTY
            )
        self.done += 1
        self._notify(TileKept(entry.name, row, col, outcome))

    def on_tile_start(self, start: TileStart) -> None:
        """Report that a worker computes a tile; of what else the cluster computes, nothing."""
        if isinstance(key := start.tile, TileKey):
            self._notify(TileStarted(key.entry.name, key.row, key.col, start.worker))

    def compute(self, cluster: AbstractCluster, delayed: Sequence[Any]) -> UnfinishedTasks:
        """Compute and deliver; return what failed."""
        unfinished = UnfinishedTasks()
        missing = {id(each): each for each in delayed}
        try:
            # The list of futures has no name here: each future may be freed, with its tile, once
            # it was delivered.
            for future in cluster.as_completed(cluster.start_tasks(delayed)):
                del missing[id(future.delayed)]
                self._receive(future, unfinished)
        except ClusterStalledError as exc:
            unfinished.stalled = True
            cause = RootCause(describe_error(exc), exc.with_traceback(None), "")
            unfinished.retryable += [(each, cause) for each in missing.values()]
        return unfinished

    def _receive(self, future: Any, unfinished: UnfinishedTasks) -> None:
        try:
            tile = future.result()
        except Exception as exc:
            if find_no_space(exc) is not None:
                raise  # the other tiles would fail too
            cause = RootCause.of(exc)
            if isinstance(cause.exception, TileError):
                # Told at once: if it is the first tile, who observes may stop the run.
                self.fail([(future.delayed, cause)])
                return
            is_permanent = isinstance(exc, ClusterBrokenError) or isinstance(
                exc.__cause__, WorkerMemoryError
            )
            failed = unfinished.permanent if is_permanent else unfinished.retryable
            failed.append((future.delayed, cause))
            return
        for key in self._keys[id(future.delayed)]:
            self._on_tile(tile, key)

    def _on_tile(self, tile: Any, key: TileKey) -> None:
        """Deliver a tile and those that waited for it, or hold it back until its turn."""
        ordered = self._ordered.get(key.entry)
        for due_key, due_tile in ((key, tile),) if ordered is None else ordered.add(key, tile):
            self._deliver(due_tile, due_key)

    def _deliver(self, tile: Any, key: TileKey) -> None:
        try:
            outcome, without = self._store(tile, key)
        except NoSpaceError:
            raise  # the other tiles would fail too
        except Exception as exc:  # noqa: BLE001 - logged with its traceback, and recorded
            cause = RootCause.of(exc)
            trace = LoggedTraceback.of(cause.traceback)
            LOG.error("%s failed: %s%s", key, cause.reason, trace)  # noqa: TRY400 - it has the traceback
            detach(exc)  # its frames hold the tile
            self._record_failure(key, cause)
            return
        # The journal last: it may only name a tile that its files hold. The checkpoint that this
        # may trigger flushes the files before it writes the line.
        self.done += 1
        self._record.record_tile(key.entry, TileRecord(key.row, key.col, outcome.value, without))
        cost = self._costs.take(key) or (None, None, None)
        self._notify(TileDone(key.entry.name, key.row, key.col, outcome, *cost))

    def _store(self, tile: Any, key: TileKey) -> tuple[TileOutcome, tuple[int, ...]]:
        """Save or replace a tile; return its outcome and the ranks of the files without it."""
        entry, row, col = key.entry, key.row, key.col
        if tile is None:
            self._replace(key, None)
            if entry.saver is not None:
                entry.saver.record_empty()
            return TileOutcome.EMPTY, ()
        try:
            tile = self._finalize_tile(entry, tile)
            self._replace(key, tile)
        except Exception as exc:
            self._clear(key)
            if entry.saver is not None:
                cause = RootCause.of(exc)
                entry.saver.record_failure(row, col, cause.reason, cause.traceback)
            raise
        if entry.saver is not None:
            with own_writes(entry.saver.folders):
                return TileOutcome.SAVED, entry.saver.save(tile, row, col)
        return (TileOutcome.REPLACED if entry.replaced else TileOutcome.COMPUTED), ()

    def _replace(self, key: TileKey, tile: Any) -> None:
        if key.entry.replaced:
            # A tile from a worker is a view of a mapped file, which holds that file open for as
            # long as it lives: the dataset gets a copy. Where tasks run in this process, the
            # delayed type is `object` and the tile is already the program's own.
            owned = tile if self._delayed_type is object else copy.deepcopy(tile)
            key.entry.dataset[key.row, key.col] = owned
            self._record.write_value(key.entry, key.row, key.col, tile)

    def _clear(self, key: TileKey) -> None:
        if key.entry.replaced:
            key.entry.dataset[key.row, key.col] = None

    def report_retries(self, unfinished: UnfinishedTasks) -> None:
        """Report which tiles are going to be computed once more."""
        retried = self._keys_and_causes(unfinished.retryable)
        _log_by_cause(logging.WARNING, ("is retried", "are retried"), retried)
        for key, cause in retried:
            self._costs.take(key)  # of the first try
            self._notify(TileRetried(key.entry.name, key.row, key.col, cause.reason))

    def fail(self, causes: Iterable[tuple[Any, RootCause]]) -> None:
        """Record that the tiles of these delayed objects are missing for good."""
        failed = self._keys_and_causes(causes)
        _log_by_cause(logging.ERROR, ("failed", "failed"), failed)
        for key, cause in failed:
            self._clear(key)
            self._costs.take(key)
            if key.entry.saver is not None:
                key.entry.saver.record_failure(key.row, key.col, cause.reason, cause.traceback)
            self._record_failure(key, cause)
            if (ordered := self._ordered.get(key.entry)) is not None:
                for due_key, due_tile in ordered.skip(key):
                    self._deliver(due_tile, due_key)

    def _keys_and_causes(
        self, causes: Iterable[tuple[Any, RootCause]]
    ) -> list[tuple[TileKey, RootCause]]:
        return [(key, cause) for delayed, cause in causes for key in self._keys[id(delayed)]]

    def _record_failure(self, key: TileKey, cause: RootCause) -> None:
        name, row, col = key.entry.name, key.row, key.col
        self.failures.append(
            TileFailure(name, row, col, cause.reason, cause.exception, cause.traceback)
        )
        refused = isinstance(cause.exception, TileError)
        self._notify(TileFailed(name, row, col, cause.reason, refused=refused))

    def report_end(self) -> None:
        """Report the end, with the counts of tiles."""
        self._notify(RunEnded(self.done, len(self.failures), self.total))

    def error(self) -> TilesFailedError | None:
        """Return what to raise, if tiles are missing: its cause is that of the first of them."""
        if not self.failures:
            return None
        in_order = sorted(self.failures, key=lambda each: (each.dataset_name, each.row, each.col))
        error = TilesFailedError(in_order, self.total)
        error.__cause__ = in_order[0].cause
        return error


def _log_by_cause(
    level: int, verb: tuple[str, str], tiles: Iterable[tuple[TileKey, RootCause]]
) -> None:
    """Log what happens to tiles: a line each, or one line for many with the same cause.

    The traceback comes once for each cause, and where the tile is lost for good.
    """
    by_reason: dict[str, tuple[RootCause, list[TileKey]]] = {}
    for key, cause in tiles:
        by_reason.setdefault(cause.reason, (cause, []))[1].append(key)
    for reason, (cause, keys) in by_reason.items():
        trace = LoggedTraceback.of(cause.traceback if level >= logging.ERROR else "")
        if len(keys) > MAX_LISTED:
            message = "%s and %d more %s: %s%s"
            LOG.log(level, message, keys[0], len(keys) - 1, verb[1], reason, trace)
            continue
        for key in keys:
            LOG.log(level, "%s %s: %s%s", key, verb[0], reason, trace)
            trace = LoggedTraceback()
