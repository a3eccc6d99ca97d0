"""Saving a CarsDataset tile by tile."""

import logging
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final

from batuta.cluster.remote_error import trace_of
from batuta.datasets import Descriptor, SaveOptions, TileError
from batuta.datasets.array_tile import AnyArrayTile, is_array_tile
from batuta.datasets.durable_file import remove, workspace_of
from batuta.errors import ConfigurationError, describe_error, one_line
from batuta.formatting import format_count
from batuta.orchestrator.contract import Readable, SavedDataset
from batuta.orchestrator.manifest import Manifest

LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """One file that a CarsDataset is saved in, as asked by `Orchestrator.add_to_save_lists`."""

    file_name: str | os.PathLike[str]
    tag: str
    dtype: str | None = "float32"
    nodata: float | None = 0
    optional_data: bool = False
    save_points_cloud_by_pair: bool = False
    options: SaveOptions | None = None


class FileEnding(Enum):
    """What happens to the files of a run when it ends."""

    FINAL = auto()
    """They are complete, and take their final names."""
    EXTENDABLE = auto()
    """As `FINAL`, and what they were made from stays, so that a later run may add tiles."""
    SUSPENDED = auto()
    """They are left open for a later run to resume."""
    SALVAGED = auto()
    """They become final with the tiles that they hold; failing that, their parts are left."""
    DISCARDED = auto()
    """Files that are not final are removed."""


def _close_descriptor(descriptor: Descriptor, ending: FileEnding) -> None:
    if ending is FileEnding.SUSPENDED:
        descriptor.suspend()
    elif ending is FileEnding.DISCARDED:
        descriptor.abandon()
    elif ending is FileEnding.SALVAGED:
        _salvage(descriptor)
    else:
        descriptor.close(keep=ending is FileEnding.EXTENDABLE)


def _salvage(descriptor: Descriptor) -> None:
    try:
        descriptor.close()
    except Exception:
        descriptor.suspend()
        raise


class OutputFile:
    """A file that tiles are saved in as they are computed: the first one opens it."""

    def __init__(self, spec: OutputSpec, dataset: SavedDataset, dataset_name: str) -> None:
        self.spec = spec
        self.dataset = dataset
        self.descriptor: Descriptor | None = None
        self.manifest = Manifest.of(spec.file_name, dataset_name, spec.tag, dataset)
        self.manifest.tag_required = not spec.optional_data
        self.existing: Sequence[Path] = ()
        """The final files of an earlier run that completed, which are left as they are."""
        self._workspace_may_exist = False
        self._others: dict[str, None] = {}
        """Variables of the tiles that lack the tag."""
        self._losses_told = 0
        self._closed = False

    def save(self, tile: Any, row: int, col: int) -> bool:
        """Save a tile; record why it cannot be saved in the manifest, and raise it.

        Returns
        -------
        bool
            Whether the file holds the tile: False where the tile lacks the tag.
        """
        # A tile of another type is refused when it is written.
        if is_array_tile(tile) and self.spec.tag not in tile:
            self._record_without_tag(tile, row, col)
            return False
        try:
            self.dataset.run_save(
                tile,
                self.spec.file_name,
                tag=self.spec.tag,
                descriptor=self._open(tile),
                position=(row, col),
            )
        except Exception as exc:
            self.manifest.record_failure(row, col, describe_error(exc), trace_of(exc))
            raise
        self.manifest.saved += 1
        self._record_losses(row, col)
        return True

    def _record_losses(self, row: int, col: int) -> None:
        losses: Sequence[str] = getattr(self.descriptor, "losses", ())
        # Each loss is told with the first tile that has it, so there are new ones or none.
        for loss in losses[self._losses_told :]:
            name = Path(self.spec.file_name).name
            LOG.warning("%s[%d, %d]: %s: %s", self.manifest.dataset_name, row, col, name, loss)
            self.manifest.record_warning(row, col, loss)
        self._losses_told = len(losses)

    def restore_tile(self, row: int, col: int, *, without_tag: bool) -> None:
        """Count a tile that an earlier run saved."""
        if without_tag:
            self.manifest.record_without_tag(row, col)
        else:
            self.manifest.saved += 1
            self.manifest.kept += 1

    def close(self, ending: FileEnding) -> None:
        """Close the file and write its manifest, whatever happens. Idempotent."""
        if self._closed:
            return
        final = ending in {FileEnding.FINAL, FileEnding.EXTENDABLE, FileEnding.SALVAGED}
        closed = False
        try:
            if self.descriptor is not None:
                _close_descriptor(self.descriptor, ending)
            elif self._workspace_may_exist:
                # Interrupted, or refused, while the descriptor was being made: nobody else knows
                # its folder, which holds no tile.
                remove(workspace_of(Path(self.spec.file_name)))
            if final:
                self.manifest.set_files(self.files(), replacing=ending is not FileEnding.SALVAGED)
            closed = True
        finally:
            # Written even where closing failed, and only after it: the manifest must not say
            # that a file is complete before it is.
            self.manifest.write(ended=closed and final)
        self._closed = True
        if final and self.manifest.is_empty and not self.spec.optional_data:
            # A function whose `return` was forgotten, for one.
            name, tiles = Path(self.spec.file_name).name, self.manifest.expected
            LOG.warning("%s: not written: all %s are empty", name, format_count(tiles, "tile"))

    def files(self) -> tuple[Path, ...]:
        """Return the final files; to be called once the file is closed."""
        if self.descriptor is None:
            return tuple(self.existing)
        return self.descriptor.outputs

    def reopen(self) -> None:
        """Open the file that an earlier run left unfinished.

        Raises
        ------
        TileError
            If it is missing, or does not match.
        """
        self.descriptor = self._generate_descriptor(None, resume=True)
        self.manifest.keep_warnings()
        self.manifest.write(ended=False)

    def _open(self, tile: Any) -> Descriptor:
        if self.descriptor is None:
            # The manifest first: a file must never be there, unfinished, beside the manifest of
            # an earlier run that says it is complete.
            self.manifest.write(ended=False)
            self._workspace_may_exist = True
            try:
                self.descriptor = self._generate_descriptor(tile)
            except ConfigurationError as exc:
                # Of what only a tile tells, such as its data type: a failure of that tile.
                raise TileError(f"{Path(self.spec.file_name).name}: {one_line(exc)}") from exc
        return self.descriptor

    def _generate_descriptor(self, tile: Any, **resume: bool) -> Descriptor:
        descriptor: Descriptor = self.dataset.generate_descriptor(
            tile,
            self.spec.file_name,
            tag=self.spec.tag,
            dtype=self.spec.dtype,
            nodata=self.spec.nodata,
            options=self.spec.options,
            save_points_cloud_by_pair=self.spec.save_points_cloud_by_pair,
            **resume,
        )
        return descriptor

    def _record_without_tag(self, tile: AnyArrayTile, row: int, col: int) -> None:
        if not self.spec.optional_data and not self.manifest.without_tag:
            LOG.warning(
                "%s[%d, %d]: no variable %r (it has %s); %s will lack such tiles",
                self.manifest.dataset_name,
                row,
                col,
                self.spec.tag,
                _listed(map(str, tile.data_vars)),
                Path(self.spec.file_name).name,
            )
        self.manifest.record_without_tag(row, col)
        self._others.update(dict.fromkeys(map(str, tile.data_vars)))

    def missing_variable(self) -> str | None:
        """Say in a line that no tile has the variable, if that is so."""
        if not self.manifest.lacks_variable:
            return None
        # Of tiles that an earlier run computed, the names of others are not known.
        others = f" (they have {_listed(self._others)})" if self._others else ""
        name = Path(self.spec.file_name).name
        return f"{self.manifest.dataset_name}: no tile has {self.spec.tag!r}{others}: no {name}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


class SingleCarsDatasetSaver:
    """Saves one CarsDataset in one or several files, a tile at a time."""

    def __init__(self, dataset: SavedDataset, dataset_name: str) -> None:
        self.dataset = dataset
        self.dataset_name = dataset_name
        self.outputs: list[OutputFile] = []

    def add_file(self, spec: OutputSpec) -> None:
        """Add a file that the dataset is saved in."""
        self.outputs.append(OutputFile(spec, self.dataset, self.dataset_name))

    def save(self, tile: Any, row: int, col: int) -> tuple[int, ...]:
        """Save a tile in every file, even where saving it in one of them fails.

        Returns
        -------
        tuple of int
            Ranks of the files that do not hold the tile, because it lacks their tag.

        Raises
        ------
        ExceptionGroup
            The errors of all files, where several fail; the error itself where one does.
        """
        problems: list[Exception] = []
        without: list[int] = []
        for rank, output in enumerate(self.outputs):
            try:
                if not output.save(tile, row, col):
                    without.append(rank)
            except Exception as exc:  # noqa: BLE001 - raised below, once all files were tried
                problems.append(exc)
        if len(problems) == 1:
            raise problems[0]
        if problems:
            raise ExceptionGroup(f"{self.dataset_name}[{row}, {col}] cannot be saved", problems)
        return tuple(without)

    def restore_tile(self, row: int, col: int, without: Sequence[int], *, empty: bool) -> None:
        """Count a tile that an earlier run saved, or found empty."""
        if empty:
            self.record_empty()
            return
        for rank, output in enumerate(self.outputs):
            output.restore_tile(row, col, without_tag=rank in without)

    def reopen(self, written: Sequence[bool]) -> None:
        """Open the files that an earlier run left unfinished: those where `written` is True."""
        for output, was_written in zip(self.outputs, written, strict=True):
            if was_written:
                output.reopen()

    def release(self) -> None:
        """Close what `reopen` opened, unchanged."""
        for output in self.outputs:
            if output.descriptor is not None:
                output.descriptor.suspend()
                output.descriptor = None

    def use_existing(self, files: Iterable[Iterable[str]]) -> None:
        """Use the final files of an earlier run, listed for each output, unchanged."""
        for output, names in zip(self.outputs, files, strict=True):
            output.existing = [Path(name) for name in names]
            output.manifest.keep_warnings()

    def checkpoint(self) -> None:
        """Flush the tiles saved so far to disk, safe from a kill and from a power loss."""
        for output in self.outputs:
            if output.descriptor is not None:
                output.descriptor.checkpoint()

    def folders(self) -> set[Path]:
        """List the folders that files are written in."""
        return {Path(output.spec.file_name).absolute().parent for output in self.outputs}

    def record_empty(self) -> None:
        """Count a tile that is None."""
        for output in self.outputs:
            output.manifest.empty += 1

    def record_failure(self, row: int, col: int, cause: str, traceback: str) -> None:
        """Record that a tile has no result, and why."""
        for output in self.outputs:
            output.manifest.record_failure(row, col, cause, traceback)

    def missing_variables(self) -> list[str]:
        """List, in a line each, the files whose variable no tile has."""
        lines = (output.missing_variable() for output in self.outputs)
        return [line for line in lines if line is not None]

    def read(self, tag: str, tile: Any) -> Any:
        """Return what the file holds at the window of `tile`; None where it is not open yet."""
        for output in self.outputs:
            if output.spec.tag != tag:
                continue
            if output.existing:
                raise TileError(
                    f"{output.existing[0].name}: already complete; not open for reading"
                )
            if isinstance(output.descriptor, Readable):
                window, _ = self.dataset.placement_of(tile)
                return output.descriptor.read(window)
        return None


def close_all(savers: Iterable[SingleCarsDatasetSaver], ending: FileEnding) -> None:
    """Close every file, even where closing one of them fails; raise that error at the end."""
    with ExitStack() as stack:
        for saver in savers:
            for output in saver.outputs:
                stack.callback(output.close, ending)
