"""One run: every tile that was registered, computed and delivered."""

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
    WorkerMemoryError,
)
from batuta.cluster.tasks import Delayed
from batuta.errors import describe_error
from batuta.orchestrator.disk import full_disk_in, stop_if_full
from batuta.orchestrator.errors import MAX_LISTED, TileFailure, TilesFailedError
from batuta.orchestrator.events import (
    Event,
    RunEnded,
    RunStarted,
    TileDone,
    TileFailed,
    TileKept,
    TileOutcome,
    TileRetried,
)
from batuta.orchestrator.ordered_delivery import Turns
from batuta.orchestrator.registry import Registered
from batuta.orchestrator.resume.journal import TileLine
from batuta.orchestrator.resume.run_record import NoRecord, RunRecord

LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tile goes: a position in a registered CarsDataset."""

    entry: Registered
    row: int
    col: int

    def __str__(self) -> str:
        return f"{self.entry.name}[{self.row}, {self.col}]"


@dataclass
class Unfinished:
    """The delayed objects that have no result yet, each with the reason in one line."""

    causes: list[tuple[Any, str]] = field(default_factory=list)
    hopeless: list[tuple[Any, str]] = field(default_factory=list)
    """Those that are not tried again: the cluster has done so already, alone, for they outgrew
    all the memory; or it can compute nothing any more."""
    stalled: bool = False
    """Whether the cluster gave no sign of life."""

    @property
    def delayed(self) -> list[Any]:
        """The delayed objects alone."""
        return [delayed for delayed, _ in self.causes]


class TileRun:
    """Delivers tiles to where they go, and accounts for those that fail.

    Parameters
    ----------
    entries : iterable of Registered
        The datasets to compute.
    delayed_type : type
        Of the cluster: what it is not, in a dataset, is a tile already.
    notify : callable
        Called with each event.
    final : callable
        Called with a dataset and each tile that has arrived; gives what to save or replace.
    record : RunRecord or NoRecord
        What earlier runs did, and where this one tells what it does.
    """

    def __init__(
        self,
        entries: Iterable[Registered],
        delayed_type: type,
        notify: Callable[[Event], None],
        final: Callable[[Registered, Any], Any],
        record: RunRecord | NoRecord,
    ) -> None:
        self._delayed_type = delayed_type
        self._notify = notify
        self._final = final
        self._record = record
        self._places: dict[int, list[Place]] = {}
        self.failures: list[TileFailure] = []
        self.done = 0
        self.total = 0
        self.delayed: list[Any] = []
        """What to compute, in order, each once."""
        self._ready: list[tuple[Any, Place]] = []
        self._kept: list[tuple[TileLine, Place]] = []
        self._turns: dict[Registered, Turns[Place, Any]] = {}
        for entry in entries:
            self._sort_out(entry)

    def _sort_out(self, entry: Registered) -> None:
        rows, cols = entry.dataset.shape
        kept = self._record.kept(entry)
        for row, col in itertools.product(range(rows), range(cols)):
            cell, place = entry.dataset[row, col], Place(entry, row, col)
            if cell is None:
                if entry.saver is not None:
                    entry.saver.skip()
                continue
            self.total += 1
            if (line := kept.get((row, col))) is not None:
                self._kept.append((line, place))
                continue
            self._give_turn(place)
            if not isinstance(cell, self._delayed_type):
                self._ready.append((cell, place))
                continue
            if id(cell) not in self._places:
                self.delayed.append(cell)
                if isinstance(cell, Delayed):
                    cell.tile = place  # named in the log of the worker
            self._places.setdefault(id(cell), []).append(place)

    def _give_turn(self, place: Place) -> None:
        if place.entry.saver is not None and place.entry.dataset.final_function is not None:
            self._turns.setdefault(place.entry, Turns()).expect(place)

    def start(self) -> None:
        """Tell that it starts, and deliver the tiles that are there already."""
        self._notify(RunStarted(self.total))
        for line, place in self._kept:
            self._keep(line, place)
        self._kept.clear()
        for tile, place in self._ready:
            self._arrived(tile, place)
        self._ready.clear()

    def _keep(self, line: TileLine, place: Place) -> None:
        entry, row, col = place.entry, place.row, place.col
        if entry.replaced:
            entry.dataset[row, col] = self._record.value(entry, row, col)
        outcome = TileOutcome(line.outcome)
        if entry.saver is not None:
            entry.saver.keep(line.without, empty=outcome is TileOutcome.EMPTY)
        self.done += 1
        self._notify(TileKept(entry.name, row, col, outcome))

    def compute(self, cluster: AbstractCluster, delayed: Sequence[Any]) -> Unfinished:
        """Compute and deliver; give back what failed."""
        unfinished = Unfinished()
        missing = {id(each): each for each in delayed}
        try:
            # No name for the list of futures: each may go, with its tile, once it was delivered.
            for future in cluster.as_completed(cluster.start_tasks(delayed)):
                del missing[id(future.delayed)]
                self._take(future, unfinished)
        except ClusterStalledError as exc:
            unfinished.stalled = True
            unfinished.causes += [(each, describe_error(exc)) for each in missing.values()]
        return unfinished

    def _take(self, future: Any, unfinished: Unfinished) -> None:
        try:
            tile = future.result()
        except Exception as exc:
            if full_disk_in(exc) is not None:
                raise  # the other tiles would fail too
            of_no_use = isinstance(exc, ClusterBrokenError) or isinstance(
                exc.__cause__, WorkerMemoryError
            )
            kind = unfinished.hopeless if of_no_use else unfinished.causes
            kind.append((future.delayed, _cause(exc)))
            return
        for place in self._places[id(future.delayed)]:
            self._arrived(tile, place)

    def _arrived(self, tile: Any, place: Place) -> None:
        """Deliver a tile, or have it wait for its turn; and those that waited for it."""
        turns = self._turns.get(place.entry)
        for due, waiting in ((place, tile),) if turns is None else turns.take(place, tile):
            self._deliver(waiting, due)

    def _deliver(self, tile: Any, place: Place) -> None:
        try:
            outcome, without = self._hand_over(tile, place)
        except Exception as exc:
            saver = place.entry.saver
            stop_if_full(exc, () if saver is None else saver.folders())
            LOG.error("%s failed: %s", place, _cause(exc), exc_info=exc)  # noqa: TRY400 - the traceback is there
            self._fail(place, _cause(exc))
            return
        self.done += 1
        self._record.note(place.entry, TileLine(place.row, place.col, outcome.value, without))
        self._notify(TileDone(place.entry.name, place.row, place.col, outcome))

    def _hand_over(self, tile: Any, place: Place) -> tuple[TileOutcome, tuple[int, ...]]:
        """Return what became of a tile, and the ranks of the files whose tag it lacks."""
        entry, row, col = place.entry, place.row, place.col
        if tile is None:
            self._replace(place, None)
            if entry.saver is not None:
                entry.saver.skip()
            return TileOutcome.EMPTY, ()
        try:
            tile = self._final(entry, tile)
            self._replace(place, tile)
        except Exception as exc:
            self._leave_empty(place)
            if entry.saver is not None:
                entry.saver.fail(row, col, _cause(exc))
            raise
        if entry.saver is not None:
            return TileOutcome.SAVED, entry.saver.save(tile, row, col)
        return (TileOutcome.REPLACED if entry.replaced else TileOutcome.COMPUTED), ()

    def _replace(self, place: Place, tile: Any) -> None:
        if place.entry.replaced:
            place.entry.dataset[place.row, place.col] = self._own(tile)
            self._record.keep(place.entry, place.row, place.col, tile)

    def _leave_empty(self, place: Place) -> None:
        if place.entry.replaced:
            place.entry.dataset[place.row, place.col] = None

    def _own(self, tile: Any) -> Any:
        """Return a tile that may be kept: one from a worker is a map of a file, held open."""
        return tile if self._delayed_type is object else copy.deepcopy(tile)

    def retry(self, unfinished: Unfinished) -> None:
        """Tell which tiles are computed once more."""
        missing = self._missing(unfinished.causes)
        _tell(logging.WARNING, ("is retried", "are retried"), missing)
        for place, cause in missing:
            self._notify(TileRetried(place.entry.name, place.row, place.col, cause))

    def give_up(self, causes: Iterable[tuple[Any, str]]) -> None:
        """Account for the tiles of these delayed objects, that are missing for good."""
        missing = self._missing(causes)
        _tell(logging.ERROR, ("failed", "failed"), missing)
        for place, cause in missing:
            self._leave_empty(place)
            if place.entry.saver is not None:
                place.entry.saver.fail(place.row, place.col, cause)
            self._fail(place, cause)
            if (turns := self._turns.get(place.entry)) is not None:
                for due, waiting in turns.give_up(place):
                    self._deliver(waiting, due)

    def _missing(self, causes: Iterable[tuple[Any, str]]) -> list[tuple[Place, str]]:
        return [(place, cause) for delayed, cause in causes for place in self._places[id(delayed)]]

    def _fail(self, place: Place, cause: str) -> None:
        failure = TileFailure(place.entry.name, place.row, place.col, cause)
        self.failures.append(failure)
        self._notify(TileFailed(place.entry.name, place.row, place.col, cause))

    def end(self) -> None:
        """Tell that it ended."""
        self._notify(RunEnded(self.done, len(self.failures), self.total))

    def error(self) -> TilesFailedError | None:
        """Return what to raise, if tiles are missing."""
        if not self.failures:
            return None
        in_order = sorted(self.failures, key=lambda each: (each.dataset_name, each.row, each.col))
        return TilesFailedError(in_order, self.total)


def _tell(level: int, verb: tuple[str, str], missing: Iterable[tuple[Place, str]]) -> None:
    """Log what becomes of tiles: a line each, but where many are so for the same reason."""
    by_cause: dict[str, list[Place]] = {}
    for place, cause in missing:
        by_cause.setdefault(cause, []).append(place)
    for cause, places in by_cause.items():
        if len(places) > MAX_LISTED:
            LOG.log(level, "%s and %d more %s: %s", places[0], len(places) - 1, verb[1], cause)
            continue
        for place in places:
            LOG.log(level, "%s %s: %s", place, verb[0], cause)


def _cause(error: BaseException) -> str:
    """Say the root cause: of a task, what it raised and where; of several files, what each says."""
    if isinstance(error, ExceptionGroup):
        return "; ".join(dict.fromkeys(map(_cause, error.exceptions)))
    return describe_error(error) if not hasattr(error, "reason") else str(error)
