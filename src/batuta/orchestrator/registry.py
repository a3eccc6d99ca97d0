"""The registry of the CarsDatasets of an orchestrator."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from batuta.errors import ConfigurationError
from batuta.orchestrator.contract import TileGrid
from batuta.orchestrator.saver import OutputSpec, SingleCarsDatasetSaver

NewSaver: TypeAlias = Callable[[Any, str], SingleCarsDatasetSaver]


@dataclass(eq=False)
class RegisteredDataset:
    """A registered CarsDataset: saved, replaced, or only computed."""

    identifier: int
    dataset: TileGrid
    name: str
    saver: SingleCarsDatasetSaver | None = None
    replaced: bool = False


class CarsDatasetRegistry:
    """Assigns an id to every CarsDataset, and finds a registered one by its id.

    An id is valid before the registration, and stays the same after the registry is cleared.

    Parameters
    ----------
    new_saver : callable
        Creates the saver of a dataset, from the dataset and its name.
    """

    def __init__(self, new_saver: NewSaver = SingleCarsDatasetSaver) -> None:
        self._new_saver = new_saver
        self._ids: WeakKeyDictionary[TileGrid, int] = WeakKeyDictionary()
        self._next_id = itertools.count()
        self._entries: dict[int, RegisteredDataset] = {}

    def __iter__(self) -> Iterator[RegisteredDataset]:
        return iter(self._entries.values())

    def id_of(self, dataset: TileGrid) -> int:
        """Return the id of `dataset`, registered or not."""
        if dataset not in self._ids:
            self._ids[dataset] = next(self._next_id)
        return self._ids[dataset]

    def find(self, identifier: int) -> TileGrid:
        """Return the registered CarsDataset of this id.

        Raises
        ------
        ConfigurationError
            If none is registered under it.
        """
        return self.entry(identifier).dataset

    def entry(self, identifier: int) -> RegisteredDataset:
        """Return the entry of the registered CarsDataset of this id."""
        if identifier not in self._entries:
            known = ", ".join(map(str, self._entries)) or "none"
            raise ConfigurationError(
                f"saving_info: no CarsDataset is registered under id {identifier!r}"
                f" (registered: {known})"
            )
        return self._entries[identifier]

    def add(self, dataset: TileGrid, name: str | None = None) -> RegisteredDataset:
        """Register `dataset`, under `name` or its own."""
        identifier = self.id_of(dataset)
        if identifier not in self._entries:
            known_as = name or dataset.name or f"dataset {identifier}"
            self._entries[identifier] = RegisteredDataset(identifier, dataset, known_as)
        return self._entries[identifier]

    def add_to_save(self, dataset: TileGrid, name: str | None, spec: OutputSpec) -> None:
        """Register `dataset` to be saved in a file."""
        entry = self.add(dataset, name)
        if entry.saver is None:
            entry.saver = self._new_saver(dataset, entry.name)
        entry.saver.add_file(spec)

    def savers(self) -> list[SingleCarsDatasetSaver]:
        """List the savers of the datasets that are saved."""
        return [entry.saver for entry in self if entry.saver is not None]

    def clear(self) -> None:
        """Remove every entry."""
        self._entries.clear()

    def output_names(self) -> set[Any]:
        """Return the names of the files to write."""
        return {output.spec.file_name for saver in self.savers() for output in saver.outputs}
