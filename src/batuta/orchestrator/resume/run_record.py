"""What a run does, kept so that, killed at any moment, the next one goes on where it was."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from batuta.datasets.durable_file import remove, workspace_of
from batuta.datasets.errors import TileError
from batuta.errors import ConfigurationError, one_line
from batuta.orchestrator.events import TileOutcome
from batuta.orchestrator.registry import Registered
from batuta.orchestrator.resume.fingerprints import Fingerprints
from batuta.orchestrator.resume.header import difference, header_of
from batuta.orchestrator.resume.journal import Journal, Record, TileLine
from batuta.orchestrator.screen import ON_SCREEN

LOG: Final = logging.getLogger(__name__)

CHECKPOINT_SHARE: Final = 0.1
"""Of the time that tiles took, what making sure of them may take."""

Key = tuple[int, int]


class Ledger:
    """What is known of one dataset of a run: the tiles that are kept, and those done since."""

    def __init__(self, folder: Path, entry: Registered) -> None:
        self.entry = entry
        self.kept: dict[Key, TileLine] = {}
        """The tiles that an earlier run did."""
        self.whole = False
        """Whether an earlier run ended it."""
        self._journal = Journal(folder)
        self._pending: list[TileLine] = []

    def open(self, header: Mapping[str, Any]) -> None:
        """Go on with the journal that is there, or start afresh and say why."""
        record = self._journal.read()
        if record is not None:
            reason = difference(record.header, header) or self._resumed(record)
            if reason is None:
                self._tell_damage(record)
                self._take_whole(record)
                self.kept = record.tiles
                self._journal.go_on(record)
                return
            LOG.warning("%s starts afresh: %s", self.entry.name, reason)
        self._journal.drop()
        self._journal.begin(header)

    def _resumed(self, record: Record) -> str | None:
        """Take up the files and the values of an earlier run; return what keeps from it."""
        if self.entry.replaced and (lost := self._lost_values(record)):
            return lost
        if self.entry.saver is None:
            return None
        if record.files is not None:
            return _changed_file(record.files)
        try:
            self.entry.saver.reopen(_written(record.tiles.values(), len(self.entry.saver.outputs)))
        except (TileError, ConfigurationError, OSError) as exc:
            self.entry.saver.let_go()
            return one_line(exc)
        return None

    def _tell_damage(self, record: Record) -> None:
        if record.damaged_line is not None:
            LOG.warning(
                "%s: line %d of %s cannot be read; the tiles from there on are computed again",
                self.entry.name,
                record.damaged_line,
                self._journal.path,
            )

    def _take_whole(self, record: Record) -> None:
        self.whole = record.files is not None
        if record.files is not None and self.entry.saver is not None:
            self.entry.saver.found_whole(record.files)

    def _lost_values(self, record: Record) -> str | None:
        lost = [key for key in record.tiles if self._journal.lacks_value(*key)]
        return f"the value of tile {lost[0]} is lost" if lost else None

    def value(self, key: Key) -> Any:
        """Return the value that a kept tile is replaced by."""
        return self._journal.value(*key)

    def keep(self, key: Key, value: Any) -> None:
        """Keep the value of a tile, for good at the next checkpoint."""
        self._journal.keep(*key, value)

    def note(self, line: TileLine) -> None:
        """Note a tile that is done; for good at the next checkpoint."""
        self._pending.append(line)

    def checkpoint(self) -> None:
        """Have all that was noted outlive a killed process and a power loss."""
        if self._pending:
            if self.entry.saver is not None:
                self.entry.saver.checkpoint()
            self._journal.append(each.line() for each in self._pending)
            self._pending.clear()

    def finish(self) -> None:
        """Note that the dataset is whole, and drop what its files were made of."""
        outputs = [] if self.entry.saver is None else self.entry.saver.outputs
        if not self.whole:
            files = [
                {str(path.absolute()): _size(path) for path in each.files()} for each in outputs
            ]
            self._journal.append([{"files": files}])
        for output in outputs:
            remove(workspace_of(Path(output.spec.file_name)))

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


class RunRecord:
    """Keeps account of one run, one `breakpoint` of a program.

    Parameters
    ----------
    folder : Path
        The ``.resume`` folder.
    number : int
        Which run of the program it is.
    entries : iterable of Registered
        The datasets, in the order of their registration.
    clock : callable
        Gives the time in seconds.

    Raises
    ------
    ConfigurationError
        Naming a task whose arguments cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        number: int,
        entries: Iterable[Registered],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._began = clock()
        self._done = 0
        self._pending = 0
        self._cost_s = 0.0
        self._ledgers: dict[Registered, Ledger] = {}
        fingerprints = Fingerprints()
        headers = {entry: header_of(entry, fingerprints) for entry in entries}
        with ExitStack() as stack:
            stack.callback(self.close)
            for rank, (entry, header) in enumerate(headers.items()):
                self._ledgers[entry] = Ledger(folder / f"{number:04d}-{rank:04d}", entry)
                self._ledgers[entry].open(header)
                self._tell(self._ledgers[entry])
            stack.pop_all()

    @staticmethod
    def _tell(ledger: Ledger) -> None:
        if ledger.kept:
            rows, cols = ledger.entry.dataset.shape
            LOG.info(
                "%s resumed: %d of %d tiles were there",
                ledger.entry.name,
                len(ledger.kept),
                rows * cols,
                extra=ON_SCREEN,
            )

    def kept(self, entry: Registered) -> Mapping[Key, TileLine]:
        """Return the tiles of a dataset that an earlier run did."""
        return self._ledgers[entry].kept

    def value(self, entry: Registered, row: int, col: int) -> Any:
        """Return the value of a kept tile of a dataset that is replaced."""
        return self._ledgers[entry].value((row, col))

    def keep(self, entry: Registered, row: int, col: int, value: Any) -> None:
        """Keep the value of a tile of a dataset that is replaced."""
        self._ledgers[entry].keep((row, col), value)

    def note(self, entry: Registered, line: TileLine) -> None:
        """Note a tile that is done, and make sure of it when that is worth its cost."""
        self._ledgers[entry].note(line)
        self._done += 1
        self._pending += 1
        per_tile_s = (self._clock() - self._began) / self._done
        if CHECKPOINT_SHARE * per_tile_s * self._pending >= self._cost_s:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Have all that was noted outlive a killed process and a power loss."""
        began = self._clock()
        for ledger in self._ledgers.values():
            ledger.checkpoint()
        self._cost_s = self._clock() - began
        self._pending = 0

    def finish(self) -> None:
        """Note that every dataset is whole: to be called once their files are closed."""
        for ledger in self._ledgers.values():
            ledger.finish()

    def close(self) -> None:
        """Close the journals."""
        with ExitStack() as stack:
            for ledger in self._ledgers.values():
                stack.callback(ledger.close)


class NoRecord:
    """Stands for the record of a run that keeps nothing."""

    def kept(self, entry: Registered) -> Mapping[Key, TileLine]:  # noqa: ARG002 - a part of the contract
        """Return nothing."""
        return {}

    def value(self, entry: Registered, row: int, col: int) -> Any:
        """Never called: nothing is kept."""
        raise KeyError((entry.name, row, col))

    def keep(self, entry: Registered, row: int, col: int, value: Any) -> None:
        """Do nothing."""

    def note(self, entry: Registered, line: TileLine) -> None:
        """Do nothing."""

    def checkpoint(self) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _written(lines: Iterable[TileLine], outputs: int) -> list[bool]:
    """Tell of each output whether a tile was written in it."""
    saved = [line for line in lines if line.outcome == TileOutcome.SAVED]
    return [any(rank not in line.without for line in saved) for rank in range(outputs)]


def _changed_file(files: Iterable[Mapping[str, int]]) -> str | None:
    for name, size in (pair for output in files for pair in output.items()):
        if not Path(name).exists():
            return f"{Path(name).name} is missing"
        if _size(Path(name)) != size:
            return f"{Path(name).name} is not as it was left"
    return None


def _size(path: Path) -> int:
    """Return the size of a file, or of all files in a folder."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
