"""Saving a CarsDataset tile by tile."""

import logging
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final

import xarray as xr

from batuta.datasets import Descriptor, SaveOptions, TileError
from batuta.datasets.durable_file import remove, workspace_of
from batuta.errors import describe_error
from batuta.orchestrator.contract import Readable, SavedDataset
from batuta.orchestrator.manifest import Manifest

LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """One file that a CarsDataset is saved in, as asked by `Orchestrator.add_to_save_lists`."""

    file_name: str | os.PathLike[str]
    tag: str
    dtype: str = "float32"
    nodata: float | None = 0
    optional_data: bool = False
    save_points_cloud_by_pair: bool = False
    options: SaveOptions | None = None


class Ending(Enum):
    """How a run ends, and so what becomes of its files."""

    WHOLE = auto()
    """They are final."""
    KEPT = auto()
    """They are final, and a later run may add to them."""
    SUSPENDED = auto()
    """A later run goes on with them."""
    SALVAGED = auto()
    """They are final with the tiles that they have; else, what they are made of is left."""
    ABANDONED = auto()
    """What is not final is thrown away."""


def _close(descriptor: Descriptor, ending: Ending) -> None:
    if ending is Ending.SUSPENDED:
        descriptor.suspend()
    elif ending is Ending.ABANDONED:
        descriptor.abandon()
    elif ending is Ending.SALVAGED:
        _salvage(descriptor)
    else:
        descriptor.close(keep=ending is Ending.KEPT)


def _salvage(descriptor: Descriptor) -> None:
    try:
        descriptor.close()
    except Exception:
        descriptor.suspend()
        raise


class OutputFile:
    """A file that tiles go to as they come: opened by the first, described by its manifest."""

    def __init__(self, spec: OutputSpec, dataset: SavedDataset, dataset_name: str) -> None:
        self.spec = spec
        self.dataset = dataset
        self.descriptor: Descriptor | None = None
        self.manifest = Manifest.of(spec.file_name, dataset_name, spec.tag, dataset)
        self.found: Sequence[Path] = ()
        """The final files of an earlier run that ended, to be left as they are."""
        self._opening = False
        """Whether what it is made in may be there."""
        self._warned = False
        self._closed = False

    def save(self, tile: Any, row: int, col: int) -> bool:
        """Save a tile; what keeps it from being saved is noted, and raised.

        Returns
        -------
        bool
            Whether it is in the file: it is not where it lacks the tag.
        """
        if self._lacks_tag(tile):
            self.manifest.without_tag += 1
            return False
        try:
            self.dataset.run_save(
                tile,
                self.spec.file_name,
                tag=self.spec.tag,
                descriptor=self._opened(tile),
                position=(row, col),
            )
        except Exception as exc:
            self.manifest.fail(row, col, describe_error(exc))
            raise
        self.manifest.saved += 1
        return True

    def keep(self, *, lacking: bool) -> None:
        """Note a tile that an earlier run saved."""
        if lacking:
            self.manifest.without_tag += 1
        else:
            self.manifest.saved += 1
            self.manifest.kept += 1

    def close(self, ending: Ending) -> None:
        """Close the file, and write its manifest whatever happens; once is enough."""
        if self._closed:
            return
        final = ending in {Ending.WHOLE, Ending.KEPT, Ending.SALVAGED}
        closed = False
        try:
            if self.descriptor is not None:
                _close(self.descriptor, ending)
            elif self._opening and ending is Ending.ABANDONED:
                remove(workspace_of(Path(self.spec.file_name)))  # interrupted while it was opened
            if final:
                self.manifest.end(self.files(), replacing=ending is not Ending.SALVAGED)
            closed = True
        finally:
            self.manifest.write(ended=closed and final)  # says that it is complete if it is
        self._closed = True

    def files(self) -> tuple[Path, ...]:
        """Return the final files, once it is closed."""
        if self.descriptor is None:
            return tuple(self.found)
        return self.descriptor.outputs

    def reopen(self) -> None:
        """Go on with the file that an earlier run left.

        Raises
        ------
        TileError
            If it is not there, or is another.
        """
        self.descriptor = self._generated(None, resume=True)
        self.manifest.write(ended=False)

    def _opened(self, tile: Any) -> Descriptor:
        if self.descriptor is None:
            self.manifest.write(ended=False)
            self._opening = True
            self.descriptor = self._generated(tile)
        return self.descriptor

    def _generated(self, tile: Any, **resume: bool) -> Descriptor:
        generated: Descriptor = self.dataset.generate_descriptor(
            tile,
            self.spec.file_name,
            tag=self.spec.tag,
            dtype=self.spec.dtype,
            nodata=self.spec.nodata,
            options=self.spec.options,
            save_points_cloud_by_pair=self.spec.save_points_cloud_by_pair,
            **resume,
        )
        return generated

    def _lacks_tag(self, tile: Any) -> bool:
        # What is no Dataset at all is refused when it is written.
        if not isinstance(tile, xr.Dataset) or self.spec.tag in tile:
            return False
        if not self.spec.optional_data and not self._warned:
            self._warned = True
            LOG.warning(
                "%s: no %r in some tiles, %s will lack them",
                self.manifest.dataset_name,
                self.spec.tag,
                Path(self.spec.file_name).name,
            )
        return True


class SingleCarsDatasetSaver:
    """Saves one CarsDataset in one or several files, a tile at a time."""

    def __init__(self, dataset: SavedDataset, dataset_name: str) -> None:
        self.dataset = dataset
        self.dataset_name = dataset_name
        self.outputs: list[OutputFile] = []

    def add_file(self, spec: OutputSpec) -> None:
        """Have the dataset saved in one more file."""
        self.outputs.append(OutputFile(spec, self.dataset, self.dataset_name))

    def save(self, tile: Any, row: int, col: int) -> tuple[int, ...]:
        """Save a tile in every file; where one refuses it, the others have it all the same.

        Returns
        -------
        tuple of int
            Ranks of the files that do not hold it, because it lacks their tag.

        Raises
        ------
        ExceptionGroup
            What each file that refuses it says.
        """
        problems: list[Exception] = []
        lacking: list[int] = []
        for rank, output in enumerate(self.outputs):
            try:
                if not output.save(tile, row, col):
                    lacking.append(rank)
            except Exception as exc:  # noqa: BLE001 - raised below, when all files had their turn
                problems.append(exc)
        if len(problems) == 1:
            raise problems[0]
        if problems:
            raise ExceptionGroup(f"{self.dataset_name}[{row}, {col}] cannot be saved", problems)
        return tuple(lacking)

    def keep(self, without: Sequence[int], *, empty: bool) -> None:
        """Note a tile that an earlier run saved, or found empty."""
        if empty:
            self.skip()
            return
        for rank, output in enumerate(self.outputs):
            output.keep(lacking=rank in without)

    def reopen(self, written: Sequence[bool]) -> None:
        """Go on with the files that an earlier run left; `written` tells which it had begun."""
        for output, begun in zip(self.outputs, written, strict=True):
            if begun:
                output.reopen()

    def let_go(self) -> None:
        """Leave what `reopen` opened as it was."""
        for output in self.outputs:
            if output.descriptor is not None:
                output.descriptor.suspend()
                output.descriptor = None

    def found_whole(self, files: Iterable[Iterable[str]]) -> None:
        """Leave the files, those of each output, as an earlier run ended them."""
        for output, names in zip(self.outputs, files, strict=True):
            output.found = [Path(name) for name in names]

    def checkpoint(self) -> None:
        """Have all that was saved so far outlive a killed process and a power loss."""
        for output in self.outputs:
            if output.descriptor is not None:
                output.descriptor.checkpoint()

    def folders(self) -> set[Path]:
        """List the folders that files are written in."""
        return {Path(output.spec.file_name).absolute().parent for output in self.outputs}

    def skip(self) -> None:
        """Note a tile that is None."""
        for output in self.outputs:
            output.manifest.empty += 1

    def fail(self, row: int, col: int, cause: str) -> None:
        """Note a tile that has no result."""
        for output in self.outputs:
            output.manifest.fail(row, col, cause)

    def read(self, tag: str, tile: Any) -> Any:
        """Return what is on disk at the window of `tile`; None where nothing is yet."""
        for output in self.outputs:
            if output.spec.tag != tag:
                continue
            if output.found:
                raise TileError(f"{output.found[0].name}: it is whole, and not open any more")
            if isinstance(output.descriptor, Readable):
                window, _ = self.dataset.placement_of(tile)
                return output.descriptor.read(window)
        return None


def close_all(savers: Iterable[SingleCarsDatasetSaver], ending: Ending) -> None:
    """Close every file, even where closing one of them fails; that is raised in the end."""
    with ExitStack() as stack:
        for saver in savers:
            for output in saver.outputs:
                stack.callback(output.close, ending)
