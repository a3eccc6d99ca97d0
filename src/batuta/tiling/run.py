"""Runs the plan of a map: its tasks are declared, computed and saved by an orchestrator."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np

from batuta.cluster import check_configuration
from batuta.cluster.errors import WorkerMemoryError
from batuta.datasets import SaveOptions, TileError, Window
from batuta.datasets.array_tile import ArrayVariable, variable_of
from batuta.datasets.cars_dataset import CarsDataset
from batuta.datasets.formats import ARRAYS, DICT
from batuta.errors import ConfigurationError, describe_value
from batuta.orchestrator import (
    Event,
    Observer,
    Orchestrator,
    RunStarted,
    TileDone,
    TileFailed,
    TileFailure,
    TileKept,
    TilesFailedError,
)
from batuta.tiling.calls import CallSource, TileCall
from batuta.tiling.outputs import NAN_IF_FLOAT, TiledOutput
from batuta.tiling.plan import MB, Limits, TilePlan, grid_spec
from batuta.tiling.region import Region
from batuta.tiling.sources import ArraySource, Source, close_files
from batuta.tiling.tile_task import PARTIAL, PartialTask, TileTask

LOG: Final = logging.getLogger(__name__)

MAX_REFUSED: Final = 4
"""Tiles that may be refused before any is done: then the function, or the output, is wrong."""

_JOB_MODES: Final = {"slurm_dask", "pbs_dask"}


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How tiles are computed.

    Parameters
    ----------
    mode : str or mapping
        The mode, or a whole configuration: docs/reference/orchestrator.md.
    resume : bool
        Whether tiles that an interrupted run saved are kept.
    out_dir : path, optional
        Folder of logs, of the profile and of what is kept to resume.
    observers : iterable of Observer
        Called with each event.
    open_orchestrator : callable
        Opens an `Orchestrator`, from its configuration, its folder and its observers.
    """

    mode: str | Mapping[str, Any] = "auto"
    resume: bool = False
    out_dir: str | os.PathLike[str] | None = None
    observers: tuple[Observer, ...] = ()
    open_orchestrator: Callable[..., Orchestrator] = Orchestrator

    def configuration(self) -> dict[str, Any]:
        """Return the configuration of the orchestrator.

        Raises
        ------
        ConfigurationError
            If the mode is neither a name nor a mapping.
        """
        if not isinstance(self.mode, str | Mapping):
            raise ConfigurationError(
                f"mode: {describe_value(self.mode)} given, the name of a mode or a configuration"
                " expected"
            )
        named = {"mode": self.mode} if isinstance(self.mode, str) else dict(self.mode)
        return {**named, "resume": True} if self.resume else named

    def limits(self) -> Limits:
        """Return what the configuration gives to a run.

        Raises
        ------
        ConfigurationError
            One line for each mistake in the configuration.
        """
        config = check_configuration(self.configuration())
        return Limits(
            workers=getattr(config, "nb_workers", 1),
            ram_mb=getattr(config, "max_ram_per_worker", None),
        )

    @property
    def resumes(self) -> bool:
        """Whether tiles that an interrupted run saved are kept."""
        return bool(self.configuration().get("resume"))

    def folder(self, output: Path) -> Path | None:
        """Return the folder of the run: the one that is given, else one beside the output.

        None where the run writes nothing but its outputs.
        """
        if self.out_dir is not None:
            return Path(self.out_dir)
        conf = self.configuration()
        if self.resumes or "profiling" in conf or conf.get("mode") in _JOB_MODES:
            return output.parent / f"{output.stem}.run"
        return None


class MemoryWatch:
    """Compares what the first tiles take with what a worker has."""

    def __init__(self, plan: TilePlan) -> None:
        self._plan = plan
        self._most_bytes = 0

    def on_event(self, event: Event) -> None:
        """Warn once a tile has taken more than a worker has."""
        if not isinstance(event, TileDone) or not event.peak_bytes:
            return
        if event.peak_bytes <= self._most_bytes:
            return
        first = not self._most_bytes
        self._most_bytes = event.peak_bytes
        held_mb = event.peak_bytes / MB
        if (smaller := self._plan.fitting(held_mb)) is not None:
            LOG.warning(
                "a tile of %d x %d pixels took %.0f MB, a worker has %g MB (max_ram_per_worker):"
                " %d x %d fit",
                *self._plan.tile,
                held_mb,
                self._plan.limits.ram_mb,
                *smaller,
            )
        elif first:
            LOG.info("the first tile took %.0f MB of its worker", held_mb)


class FirstTilesWatch:
    """Stops a run whose first tiles are all refused: the others would be, too."""

    def __init__(self) -> None:
        self._any_done = False
        self._total = 0
        self._refused: list[TileFailure] = []

    def on_event(self, event: Event) -> None:
        """Note a tile that is done or refused.

        Raises
        ------
        TilesFailedError
            Once `MAX_REFUSED` are refused and none is done.
        """
        if isinstance(event, RunStarted):
            self._total += event.total
        elif isinstance(event, TileDone | TileKept):
            self._any_done = True
        elif isinstance(event, TileFailed) and event.refused and not self._any_done:
            name, row, col, reason = event.dataset_name, event.row, event.col, event.cause
            self._refused.append(TileFailure(name, row, col, reason, TileError(reason)))
            if len(self._refused) == MAX_REFUSED:
                self._stop()

    def _stop(self) -> NoReturn:
        error = TilesFailedError(self._refused, self._total)
        error.add_note(f"the first {MAX_REFUSED} tiles were refused: no other was computed")
        raise error


class MappedDataset(CarsDataset):
    """A dataset whose `NAN_IF_FLOAT` holds for floats alone, as only its first tile tells."""

    def generate_descriptor(self, future_result: Any, *args: Any, **options: Any) -> Any:
        """Open the file that tiles are saved to: see `CarsDataset.generate_descriptor`."""
        if options.get("dtype") is None and options.get("nodata") is NAN_IF_FLOAT:
            tag = options.get("tag")
            if tag in getattr(future_result, "data_vars", ()):
                is_float = future_result[tag].dtype.kind in "fc"
                options["nodata"] = NAN_IF_FLOAT if is_float else None
        return super().generate_descriptor(future_result, *args, **options)


@dataclass(frozen=True, kw_only=True)
class TileRun:
    """One computation of every tile of a plan.

    Parameters
    ----------
    call : TileCall
        What is computed for each tile.
    region : Region
        What the tiles cover.
    plan : TilePlan
        How it is divided.
    options : RunOptions
        How tiles are computed.
    """

    call: TileCall
    region: Region
    plan: TilePlan
    options: RunOptions

    def save(self, outputs: tuple[TiledOutput, ...]) -> None:
        """Compute every tile, and save its results.

        Raises
        ------
        TilesFailedError
            Once all else is saved, if tiles failed twice.
        """
        folder = self.options.folder(Path(outputs[0].path))
        with self._orchestrator(folder) as orchestrator:
            datasets = self._register(orchestrator, outputs)
            self._declare(orchestrator, self._tile_task(orchestrator, outputs), datasets)

    def arrays(self, output: TiledOutput) -> Iterator[tuple[Window, ArrayVariable]]:
        """Compute every tile; iterate over their windows in the region, and their arrays.

        Parameters
        ----------
        output : TiledOutput
            A raster: what its tiles would be saved in.
        """
        for window, tile in self._collected(ARRAYS, lambda to: self._tile_task(to, (output,))):
            yield window, variable_of(tile, output.tag)

    def partials(self, *, added: bool) -> Iterator[Any]:
        """Compute every tile; iterate over what the function returned, row by row.

        Parameters
        ----------
        added : bool
            Whether that is to be added up: then what has no sum is refused.
        """

        def task_for(orchestrator: Orchestrator) -> PartialTask:
            call = _scattered(self.call, orchestrator)
            return PartialTask(call=call, region=self.region.window, added=added)

        for _, tile in self._collected(DICT, task_for, all_needed=True):
            yield tile[PARTIAL]

    def _tile_task(self, orchestrator: Orchestrator, outputs: tuple[TiledOutput, ...]) -> TileTask:
        return TileTask(
            call=_scattered(self.call, orchestrator),
            outputs=outputs,
            region=self.region.window,
            profile=self.call.raster.part(self.region.window).profile,
        )

    def _collected(
        self,
        kind: str,
        task_for: Callable[[Orchestrator], Callable[[Window], Any]],
        *,
        all_needed: bool = False,
    ) -> Iterator[tuple[Window, Any]]:
        """Compute every tile; iterate over their windows in the region, and those not empty."""
        out_dir = self.options.out_dir
        dataset = self._dataset(kind, self.call.name)
        with self._orchestrator(None if out_dir is None else Path(out_dir)) as orchestrator:
            orchestrator.add_to_replace_lists(dataset)
            self._declare(orchestrator, task_for(orchestrator), [dataset])
        if all_needed and orchestrator.failures:  # with ``on_tile_failure: continue``
            raise TilesFailedError(orchestrator.failures, self.plan.tiles)
        for position in dataset.positions():
            if dataset[position] is not None:
                yield Window.from_mapping(dataset.get_window_as_dict(*position)), dataset[position]

    @contextmanager
    def _orchestrator(self, folder: Path | None) -> Iterator[Orchestrator]:
        LOG.info("%s: %s", self.call.name, self.plan)
        conf = self.options.configuration()
        observers = [*self.options.observers, MemoryWatch(self.plan)]
        if conf.get("on_tile_failure") != "continue":
            observers.append(FirstTilesWatch())
        try:
            with self.options.open_orchestrator(conf, folder, observers=observers) as orchestrator:
                yield orchestrator
        except TilesFailedError as exc:
            if any(_is_of_memory(each.cause) for each in exc.failures):
                rows, cols = (max(1, side // 2) for side in self.plan.tile)
                exc.add_note(
                    f"with tile=({rows}, {cols}), a tile takes about a quarter of the memory"
                )
            raise
        finally:
            close_files()

    def _register(
        self, orchestrator: Orchestrator, outputs: Iterable[TiledOutput]
    ) -> list[CarsDataset]:
        """Register a dataset of all rasters, and one for each other output."""
        datasets: dict[str, CarsDataset] = {}
        for output in outputs:
            kind = output.dataset_type
            name = self.call.name if kind == ARRAYS else Path(output.path).stem
            key = kind if kind == ARRAYS else os.fspath(output.path)
            dataset = datasets.setdefault(key, self._dataset(kind, name))
            orchestrator.add_to_save_lists(
                output.path,
                output.tag,
                dataset,
                output.dtype,
                output.file_nodata,
                options=_with_tags(output, self.call),
            )
        # A task returns the rasters first: see `TileTask`.
        return sorted(datasets.values(), key=lambda each: each.dataset_type != ARRAYS)

    def _dataset(self, kind: str, name: str) -> CarsDataset:
        dataset = MappedDataset(kind, name=name)
        dataset.tiling_grid = grid_spec(self.plan, self.region).tiling()
        return dataset

    def _declare(
        self,
        orchestrator: Orchestrator,
        task: Callable[[Window], Any],
        datasets: list[CarsDataset],
    ) -> None:
        """Declare the task of each tile that is computed."""
        create = orchestrator.cluster.create_task(task, nout=len(datasets))
        for row, col in np.argwhere(self.plan.touched).tolist():
            delayed = create(Window.from_mapping(datasets[0].get_window_as_dict(row, col)))
            tiles = delayed if len(datasets) > 1 else (delayed,)
            for dataset, tile in zip(datasets, tiles, strict=True):
                dataset[row, col] = tile


def _is_of_memory(cause: BaseException | None) -> bool:
    while cause is not None:
        if isinstance(cause, WorkerMemoryError):
            return True
        cause = cause.__cause__
    return False


def _with_tags(output: TiledOutput, call: TileCall) -> SaveOptions | None:
    """Return the options of an output, with the tags of the first input unless it has its own."""
    if output.dataset_type != ARRAYS or not call.raster.tags:
        return output.options
    options = output.options or SaveOptions()
    return options if options.tags else replace(options, tags=call.raster.tags)


def _scattered(call: TileCall, orchestrator: Orchestrator) -> TileCall:
    """Return a call whose arrays are sent to workers once."""

    def sent(source: Source) -> Source:
        if isinstance(source, CallSource):
            return replace(source, call=_scattered(source.call, orchestrator))
        if isinstance(source, ArraySource):
            return replace(source, array=orchestrator.cluster.scatter(source.array))
        return source

    return replace(call, sources=tuple(map(sent, call.sources)))
