"""Validation of the arguments of an orchestrator: one line for each invalid one."""

import os
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from batuta.datasets.cars_dataset import CarsDataset
from batuta.datasets.formats import output_problems
from batuta.durable_folders import create_folder
from batuta.errors import ConfigurationError, describe_value
from batuta.orchestrator.events import Observer
from batuta.orchestrator.saver import OutputSpec

_GRID_MEMBERS: Final = (
    "name",
    "dataset_type",
    "final_function",
    "shape",
    "tiling_grid",
    "overlaps",
    "__getitem__",
    "__setitem__",
)
"""The members of `batuta.orchestrator.contract.TileGrid`."""


def check_output_paths(out_dir: Any, out_json_path: Any) -> None:
    """Refuse paths where outputs cannot be written.

    Raises
    ------
    ConfigurationError
        Naming each invalid argument.
    """
    problems: list[str] = []
    for name, path, is_other, kind in (
        ("out_dir", out_dir, Path.is_file, "folder"),
        ("out_json_path", out_json_path, Path.is_dir, "file"),
    ):
        if path is None:
            continue
        if not isinstance(path, str | os.PathLike):
            problems.append(
                f"{name}: {describe_value(path)} given, the path of a {kind} or None expected"
            )
        elif is_other(Path(path)):
            problems.append(f"{name}: {os.fspath(path)!r} given, which exists and is not a {kind}")
    if problems:
        raise ConfigurationError(problems)


def absolute_path(name: str, path: Any) -> Path:
    """Return `path` as an absolute Path.

    Raises
    ------
    ConfigurationError
        If it is not a path, or relative to a current folder that was removed.
    """
    if not isinstance(path, str | os.PathLike):
        raise ConfigurationError(f"{name}: {describe_value(path)} given, a path expected")
    try:
        return Path(path).absolute()
    except FileNotFoundError as exc:
        raise ConfigurationError(
            f"{name}: {os.fspath(path)!r} given, an absolute path expected: the current folder"
            " does not exist any more"
        ) from exc


def make_folder(folder: Path) -> None:
    """Create the output folder.

    Raises
    ------
    ConfigurationError
        With the reason if it cannot be created.
    """
    try:
        create_folder(folder)
    except OSError as exc:
        raise ConfigurationError(
            f"out_dir: {os.fspath(folder)!r} cannot be created: {exc.strerror}"
        ) from exc


def checked_observers(observers: Any) -> tuple[Observer, ...]:
    """Return the observers as a tuple, or refuse what is not one."""
    if not isinstance(observers, Iterable):
        raise ConfigurationError(
            f"observers: {describe_value(observers)} given, a list of observers expected"
        )
    listed = tuple(observers)
    problems = [
        f"observers[{rank}]: {describe_value(each)} given,"
        " an object with a method on_event expected"
        for rank, each in enumerate(listed)
        if not callable(getattr(each, "on_event", None))
    ]
    if problems:
        raise ConfigurationError(problems)
    return listed


def checked_mapping(name: str, given: Any) -> Mapping[str, Any]:
    """Return `given`, or refuse what is not a mapping with strings as keys."""
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{name}: {describe_value(given)} given, a mapping expected")
    problems = [
        f"{name}: the key {describe_value(key)} given, a string expected"
        for key in given
        if not isinstance(key, str)
    ]
    if problems:
        raise ConfigurationError(problems)
    return given


def checked_attributes(name: str, tile: Any) -> Mapping[Any, Any]:
    """Return the attributes of a tile, or refuse what is not one."""
    attributes = getattr(tile, "attrs", None)
    if not isinstance(attributes, Mapping):
        raise ConfigurationError(
            f"{name}: {describe_value(tile)} given, a tile with its attributes expected"
        )
    return attributes


def checked_list(name: str, datasets: Any) -> list[Any]:
    """Return the CarsDatasets as a list, or refuse what is not one."""
    if not isinstance(datasets, Iterable):
        raise ConfigurationError(
            f"{name}: {describe_value(datasets)} given, a list of CarsDatasets expected"
        )
    listed = list(datasets)
    problems = [
        line for rank, each in enumerate(listed) for line in grid_problems(f"{name}[{rank}]", each)
    ]
    if problems:
        raise ConfigurationError(problems)
    return listed


def check_dataset(dataset: Any, dataset_name: Any) -> None:
    """Refuse a dataset that cannot be registered, or an invalid name for it."""
    problems = [*grid_problems("cars_ds", dataset), *_name_problems(dataset_name)]
    if problems:
        raise ConfigurationError(problems)


def grid_problems(name: str, dataset: Any) -> list[str]:
    """List the reasons why an object cannot be registered."""
    # In the class first: the shape of a grid that is not created yet may raise.
    missing = [
        each
        for each in _GRID_MEMBERS
        if not hasattr(type(dataset), each) and not hasattr(dataset, each)
    ]
    if missing:
        return [f"{name}: {describe_value(dataset)} given, a CarsDataset expected"]
    try:
        hash(weakref.ref(dataset))
    except TypeError as exc:
        return [f"{name}: {describe_value(dataset)} given, which cannot be registered: {exc}"]
    return []


def spec_problems(spec: OutputSpec, dataset: Any, dataset_name: Any) -> list[str]:
    """List the reasons why a CarsDataset cannot be saved as requested."""
    problems = _name_problems(dataset_name)
    tag: object = spec.tag
    if not isinstance(tag, str):
        problems.append(f"tag: {describe_value(tag)} given, a string expected")
    if not isinstance(dataset, CarsDataset):
        return [f"cars_ds: {describe_value(dataset)} given, a CarsDataset expected", *problems]
    return problems + output_problems(
        spec.file_name,
        dataset.dataset_type,
        spec.dtype,
        spec.nodata,
        spec.options,
        by_pair=spec.save_points_cloud_by_pair,
    )


def _name_problems(dataset_name: Any) -> list[str]:
    if isinstance(dataset_name, str | None):
        return []
    return [f"cars_ds_name: {describe_value(dataset_name)} given, a string or None expected"]
