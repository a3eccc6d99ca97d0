"""Saving a CarsDataset tile by tile."""

import logging
import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from batuta.cluster.worker import describe
from batuta.datasets import Descriptor, SaveOptions
from batuta.datasets.formats import ARRAYS
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


class OutputFile:
    """A file that tiles go to as they come: opened by the first, described by its manifest."""

    def __init__(self, spec: OutputSpec, dataset: SavedDataset, dataset_name: str) -> None:
        self.spec = spec
        self.dataset = dataset
        self.descriptor: Descriptor | None = None
        self.manifest = Manifest.of(spec.file_name, dataset_name, spec.tag, dataset)
        self._warned = False

    def save(self, tile: Any, row: int, col: int) -> None:
        """Save a tile; what keeps it from being saved is noted, and raised."""
        if self._lacks_tag(tile):
            self.manifest.without_tag += 1
            return
        try:
            self.dataset.run_save(
                tile,
                self.spec.file_name,
                tag=self.spec.tag,
                descriptor=self._opened(tile),
                position=(row, col),
            )
        except Exception as error:
            self.manifest.fail(row, col, describe(error))
            raise
        self.manifest.saved += 1

    def close(self, *, abandon: bool) -> None:
        """Close the file, and write its manifest whatever happens.

        Parameters
        ----------
        abandon : bool
            Whether the run was interrupted: points and dicts not yet gathered are thrown away.
        """
        closed = False
        try:
            if self.descriptor is not None and abandon:
                self.descriptor.abandon()
            elif self.descriptor is not None:
                self.descriptor.close()
            closed = True
            if self.descriptor is not None and not abandon:
                self.manifest.files = sorted(path.name for path in self.descriptor.outputs)
        finally:
            self.manifest.write(ended=closed and not abandon)

    def _opened(self, tile: Any) -> Descriptor:
        if self.descriptor is None:
            self.manifest.write(ended=False)
            self.descriptor = self.dataset.generate_descriptor(
                tile,
                self.spec.file_name,
                tag=self.spec.tag,
                dtype=self.spec.dtype,
                nodata=self.spec.nodata,
                options=self.spec.options,
                save_points_cloud_by_pair=self.spec.save_points_cloud_by_pair,
            )
        return self.descriptor

    def _lacks_tag(self, tile: Any) -> bool:
        if self.dataset.dataset_type != ARRAYS or self.spec.tag in tile:
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

    def save(self, tile: Any, row: int, col: int) -> None:
        """Save a tile in every file; where one refuses it, the others have it all the same.

        Raises
        ------
        ExceptionGroup
            What each file that refuses it says.
        """
        problems: list[Exception] = []
        for output in self.outputs:
            try:
                output.save(tile, row, col)
            except Exception as error:  # noqa: BLE001 - raised below, when all files had their turn
                problems.append(error)
        if len(problems) == 1:
            raise problems[0]
        if problems:
            raise ExceptionGroup(f"{self.dataset_name}[{row}, {col}] cannot be saved", problems)

    def skip(self) -> None:
        """Note a tile that is None."""
        for output in self.outputs:
            output.manifest.empty += 1

    def fail(self, row: int, col: int, cause: str) -> None:
        """Note a tile that has no result."""
        for output in self.outputs:
            output.manifest.fail(row, col, cause)

    def read(self, tag: str, tile: Any) -> Any:
        """Give what is on disk at the window of `tile`; None where nothing is yet."""
        for output in self.outputs:
            if output.spec.tag == tag and isinstance(output.descriptor, Readable):
                window, _ = self.dataset.placed(tile)
                return output.descriptor.read(window)
        return None


def close_all(savers: Iterable[SingleCarsDatasetSaver], *, abandon: bool) -> None:
    """Close every file, even where closing one of them fails; that is raised in the end."""
    with ExitStack() as stack:
        for saver in savers:
            for output in saver.outputs:
                stack.callback(output.close, abandon=abandon)
