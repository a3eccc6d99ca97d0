"""The record of one run: what is done, so that after a kill at any moment the next run resumes."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from batuta.datasets.durable_file import remove, workspace_of
from batuta.datasets.errors import TileError
from batuta.errors import ConfigurationError, one_line
from batuta.orchestrator.disk import own_writes
from batuta.orchestrator.events import TileOutcome
from batuta.orchestrator.registry import RegisteredDataset
from batuta.orchestrator.resume.fingerprints import Fingerprinter
from batuta.orchestrator.resume.header import build_header, describe_difference
from batuta.orchestrator.resume.journal import Journal, JournalContent, TileRecord
from batuta.orchestrator.screen import ON_SCREEN

LOG: Final = logging.getLogger(__name__)

CHECKPOINT_SHARE: Final = 0.1
"""The most that checkpoints may take, as a share of the time that tiles take."""

Position = tuple[int, int]


class DatasetRecord:
    """The record of one dataset of a run: the tiles finished before it, and those done since."""

    def __init__(self, folder: Path, entry: RegisteredDataset) -> None:
        self.entry = entry
        self.finished: dict[Position, TileRecord] = {}
        """The tiles that an earlier run finished."""
        self.complete = False
        """Whether an earlier run completed the dataset."""
        self._journal = Journal(folder)
        self._pending: list[TileRecord] = []

    def open(self, header: Mapping[str, Any]) -> None:
        """Resume from the journal that is there; if that cannot be, say why and create another."""
        content = self._journal.read()
        if content is not None:
            reason = describe_difference(content.header, header) or self._reopen_outputs(content)
            if reason is None:
                self._warn_of_damage(content)
                self.complete = content.files is not None
                if content.files is not None and self.entry.saver is not None:
                    self.entry.saver.use_existing(content.files)
                self.finished = content.tiles
                self._journal.resume(content)
                return
            LOG.warning("%s cannot resume; recomputing all tiles: %s", self.entry.name, reason)
        self._journal.delete()
        self._journal.create(header)

    def _reopen_outputs(self, content: JournalContent) -> str | None:
        """Open the files of an earlier run; return what is wrong with them or with its values."""
        if self.entry.replaced:
            for position in content.tiles:
                if not self._journal.has_value(*position):
                    return f"the value of tile {position} is missing"
        if self.entry.saver is None:
            return None
        if content.files is not None:
            return _changed_file(content.files)
        outputs = len(self.entry.saver.outputs)
        try:
            self.entry.saver.reopen(_written_outputs(content.tiles.values(), outputs))
        except (TileError, ConfigurationError, OSError) as exc:
            self.entry.saver.release()
            return one_line(exc)
        return None

    def _warn_of_damage(self, content: JournalContent) -> None:
        if content.damaged_line is not None:
            LOG.warning(
                "%s: line %d of %s cannot be read; recomputing the tiles from there on",
                self.entry.name,
                content.damaged_line,
                self._journal.path,
            )

    def read_value(self, position: Position) -> Any:
        """Read the value that replaces a finished tile."""
        return self._journal.read_value(*position)

    def write_value(self, position: Position, value: Any) -> None:
        """Write the value of a tile; durable from the next checkpoint on."""
        self._journal.write_value(*position, value)

    def record_tile(self, tile: TileRecord) -> None:
        """Record a tile that is done; durable from the next checkpoint on."""
        self._pending.append(tile)

    def checkpoint(self) -> None:
        """Make everything recorded so far safe from a kill and from a power loss."""
        if self._pending:
            # The files first: a journal that is ahead of them would have the next run leave out
            # tiles that no file holds. Killed in between, tiles that are in the files already are
            # computed and written again, to the same bytes.
            if self.entry.saver is not None:
                self.entry.saver.checkpoint()
            self._journal.append(each.to_json() for each in self._pending)
            self._pending.clear()

    def finish(self) -> None:
        """Record that the dataset is complete, and remove what its files were made from."""
        outputs = [] if self.entry.saver is None else self.entry.saver.outputs
        if not self.complete:
            files = [
                {str(path.absolute()): _size(path) for path in each.files()} for each in outputs
            ]
            self._journal.append([{"files": files}])
        # Only now, after the line is on disk: without that line the next run needs the workspaces.
        # Also where an earlier run completed the dataset, as it may have been killed right here.
        for output in outputs:
            remove(workspace_of(Path(output.spec.file_name)))

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


class RunRecord:
    """The record of one run, that is of one `breakpoint` of a program.

    Parameters
    ----------
    folder : Path
        The ``.resume`` folder.
    number : int
        Rank of the run in the program, from 1.
    entries : iterable of RegisteredDataset
        The datasets, in the order of their registration.
    clock : callable
        Returns the time in seconds.

    Raises
    ------
    ConfigurationError
        Naming a task whose arguments cannot be pickled.
    """

    def __init__(
        self,
        folder: Path,
        number: int,
        entries: Iterable[RegisteredDataset],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._started_s = clock()
        self._done = 0
        self._pending = 0
        self._checkpoint_cost_s = 0.0
        self._datasets: dict[RegisteredDataset, DatasetRecord] = {}
        # All headers before any journal is opened: digesting may fail, and opening may delete.
        fingerprinter = Fingerprinter()
        headers = {entry: build_header(entry, fingerprinter) for entry in entries}
        with ExitStack() as stack:
            stack.callback(self.close)
            for rank, (entry, header) in enumerate(headers.items()):
                dataset = DatasetRecord(folder / f"{number:04d}-{rank:04d}", entry)
                self._datasets[entry] = dataset
                with own_writes(self._folders):
                    dataset.open(header)
                _log_resumed(dataset)
            stack.pop_all()

    def finished_tiles(self, entry: RegisteredDataset) -> Mapping[Position, TileRecord]:
        """Return the tiles of a dataset that an earlier run finished."""
        return self._datasets[entry].finished

    def read_value(self, entry: RegisteredDataset, row: int, col: int) -> Any:
        """Read the value of a finished tile, of a dataset whose tiles are replaced."""
        return self._datasets[entry].read_value((row, col))

    def write_value(self, entry: RegisteredDataset, row: int, col: int, value: Any) -> None:
        """Write the value of a tile, of a dataset whose tiles are replaced."""
        with own_writes(self._folders):
            self._datasets[entry].write_value((row, col), value)

    def record_tile(self, entry: RegisteredDataset, tile: TileRecord) -> None:
        """Record a tile that is done, and make a checkpoint if that is worth its cost."""
        self._datasets[entry].record_tile(tile)
        self._done += 1
        self._pending += 1
        # What a kill would lose now, against what the last checkpoint took: tiles of minutes are
        # synced one by one, tiles of milliseconds by the hundred.
        per_tile_s = (self._clock() - self._started_s) / self._done
        if CHECKPOINT_SHARE * per_tile_s * self._pending >= self._checkpoint_cost_s:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Make everything recorded so far safe from a kill and from a power loss."""
        started_s = self._clock()
        with own_writes(self._folders):
            for dataset in self._datasets.values():
                dataset.checkpoint()
        self._checkpoint_cost_s = self._clock() - started_s
        self._pending = 0

    def finish(self) -> None:
        """Record that every dataset is complete; to be called once their files are closed."""
        with own_writes(self._folders):
            for dataset in self._datasets.values():
                dataset.finish()

    def _folders(self) -> set[Path]:
        """List where journals and outputs are written."""
        savers = [entry.saver for entry in self._datasets if entry.saver is not None]
        return {self._folder}.union(*(saver.folders() for saver in savers))

    def close(self) -> None:
        """Close the journals."""
        with ExitStack() as stack:
            for dataset in self._datasets.values():
                stack.callback(dataset.close)


class NullRecord:
    """The record of a run without `resume`: records nothing."""

    def finished_tiles(self, entry: RegisteredDataset) -> Mapping[Position, TileRecord]:  # noqa: ARG002 - a part of the contract
        """Return nothing."""
        return {}

    def read_value(self, entry: RegisteredDataset, row: int, col: int) -> Any:
        """Never called, as no tile is finished."""
        raise KeyError((entry.name, row, col))

    def write_value(self, entry: RegisteredDataset, row: int, col: int, value: Any) -> None:
        """Do nothing."""

    def record_tile(self, entry: RegisteredDataset, tile: TileRecord) -> None:
        """Do nothing."""

    def checkpoint(self) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _log_resumed(dataset: DatasetRecord) -> None:
    if dataset.finished:
        rows, cols = dataset.entry.dataset.shape
        LOG.info(
            "%s resumed: %d of %d tiles were already done",
            dataset.entry.name,
            len(dataset.finished),
            rows * cols,
            extra=ON_SCREEN,
        )


def _written_outputs(tiles: Iterable[TileRecord], outputs: int) -> list[bool]:
    """Return, for each output, whether a tile was written in it."""
    saved = [tile for tile in tiles if tile.outcome == TileOutcome.SAVED]
    return [any(rank not in tile.without for tile in saved) for rank in range(outputs)]


def _changed_file(files: Iterable[Mapping[str, int]]) -> str | None:
    for name, size in (pair for output in files for pair in output.items()):
        if not Path(name).exists():
            return f"{Path(name).name} is missing"
        if (now := _size(Path(name))) != size:
            return f"{Path(name).name} has {now} bytes, and had {size} when it was written"
    return None


def _size(path: Path) -> int:
    """Return the size of a file, or of all files in a folder."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
