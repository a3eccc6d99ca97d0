"""The orchestrator: it makes a product out of tasks, tiles and files."""

import logging
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from batuta.cluster import AbstractCluster, check_configuration, create_cluster
from batuta.cluster.contract import ReportsWorkerCount, WorkerCount
from batuta.cluster.store import shared_memory_folder
from batuta.datasets import CarsDataset, SaveOptions
from batuta.datasets.tiles import SAVING_INFO
from batuta.errors import ConfigurationError
from batuta.orchestrator.arguments import (
    check_dataset,
    check_places,
    checked_attributes,
    checked_list,
    checked_mapping,
    checked_observers,
    checked_path,
    make_folder,
    spec_problems,
)
from batuta.orchestrator.contract import TileGrid
from batuta.orchestrator.disk import disk_full_error
from batuta.orchestrator.documents import INDEX_FILE, merge, write_document
from batuta.orchestrator.errors import TileFailure
from batuta.orchestrator.events import Event, Observer, WorkersPresent
from batuta.orchestrator.finalize import end_early, end_well
from batuta.orchestrator.logs import MainLog
from batuta.orchestrator.registry import CarsDatasetRegistry, Registered
from batuta.orchestrator.resume.folder import ResumeFolder, check_resumable, prepare
from batuta.orchestrator.resume.run_record import NoRecord, RunRecord
from batuta.orchestrator.run_profile import RunProfile, check_profiled
from batuta.orchestrator.saver import OutputSpec
from batuta.orchestrator.saving_infos import DATASET_KEY, flatten_object, update_saving_infos
from batuta.orchestrator.screen import ON_SCREEN, ProgressBar
from batuta.orchestrator.tile_run import TileRun

__all__ = ["DATASET_KEY", "Orchestrator", "flatten_object", "update_saving_infos"]

LOG: Final = logging.getLogger(__name__)


class Orchestrator:
    """Computes the CarsDatasets that it is told of, tile by tile, and saves them.

    Programs create tasks with ``orchestrator.cluster.create_task``, put the delayed objects in
    CarsDatasets, and register these to be saved, replaced or only computed. All is computed at
    `breakpoint`, or when the ``with`` block ends; if that ends by an exception, nothing more is
    computed. A tile that fails is computed once more after the others.

    Parameters
    ----------
    orchestrator_conf : mapping, optional
        The mode and its keys; see docs/reference/orchestrator.md. None is ``{"mode": "auto"}``.
    out_dir : path, optional
        Where logs and temporary files go. Made if it is not there.
    launch_worker : bool
        False to declare and check without computing anything.
    out_json_path : path, optional
        Where `out_json` is saved: JSON, or YAML for a name in ``.yaml``.
    observers : iterable of Observer
        Told of each event; see `batuta.orchestrator.events`.
    progress_bar : bool
        False where the program shows progress by an observer of its own.

    Attributes
    ----------
    cluster : AbstractCluster
        Where tasks run.
    out_json : dict
        What the program tells of its product, by `update_out_info`.
    product_index : dict
        What each product is made of, by `update_index`.
    failures : list of TileFailure
        The tiles that are missing, of all runs so far.

    Raises
    ------
    ConfigurationError
        One line per mistake in the configuration.
    TilesFailedError
        From `breakpoint` and the end of the block: tiles that failed twice, once everything else
        is saved; with ``on_tile_failure: continue``, a warning instead.
    DiskFullError
        From the same: nothing more is computed, and what is done is kept.
    """

    def __init__(
        self,
        orchestrator_conf: Mapping[str, Any] | None = None,
        out_dir: str | os.PathLike[str] | None = None,
        launch_worker: bool = True,
        out_json_path: str | os.PathLike[str] | None = None,
        *,
        observers: Iterable[Observer] = (),
        progress_bar: bool = True,
    ) -> None:
        self._config = check_configuration(orchestrator_conf)
        check_places(out_dir, out_json_path)
        if launch_worker:
            check_profiled(self._config, out_dir)
        self.out_dir = None if out_dir is None else os.fspath(out_dir)
        self.launch_worker = launch_worker
        self.out_json_path = None if out_json_path is None else Path(out_json_path)
        self.out_json: dict[str, Any] = {}
        self.product_index: dict[str, Any] = {}
        told = checked_observers(observers)
        self._registry = CarsDatasetRegistry()
        self._to_clean: list[Path] = []
        self.failures: list[TileFailure] = []
        self._run: TileRun | None = None
        self._record: RunRecord | NoRecord = NoRecord()
        self._runs = 0
        self._waiting_for = ""
        with ExitStack() as stack:
            self._kept: ResumeFolder | None = None
            if launch_worker:
                if self._folder is not None:
                    make_folder(self._folder)
                self._kept = prepare(self._folder, resume=self._config.resume)
                if self._kept is not None:
                    stack.callback(self._kept.close)
                stack.callback(MainLog(self._folder).close)
            self._profile = RunProfile(self._config, self._folder if launch_worker else None)
            stack.callback(self._profile.close)
            bar = [ProgressBar()] if progress_bar else []
            self._observers: tuple[Observer, ...] = (self._profile, *bar, *told)
            self.cluster: AbstractCluster = self._new_cluster()
            stack.callback(self.cluster.cleanup)
            if self._kept is not None:
                check_resumable(self._config.mode, self.cluster.delayed_type)
            self._resources = stack.pop_all()

    @property
    def _folder(self) -> Path | None:
        return None if self.out_dir is None else Path(self.out_dir)

    def _new_cluster(self) -> AbstractCluster:
        cluster = create_cluster(self._config, self._folder, launch_worker=self.launch_worker)
        if isinstance(cluster, ReportsWorkerCount):
            cluster.on_workers = self._on_workers
        self._profile.attach(cluster)
        return cluster

    def _on_workers(self, there: WorkerCount) -> None:
        if there.waiting_for != self._waiting_for:
            self._waiting_for = there.waiting_for
            if self._waiting_for and not sys.stderr.isatty():  # where the bar would tell
                told = f"{there.present} of {there.asked} workers: {there.waiting_for}"
                LOG.info(told, extra=ON_SCREEN)
        self._notify(WorkersPresent(there.present, there.asked, there.waiting_for))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback_msg: TracebackType | None,
    ) -> None:
        """Compute, save and clean up; after an exception, only clean up."""
        try:
            if exc_type is None:
                self.breakpoint()
            elif exc_value is not None:
                self._profile.fail(exc_value)
        finally:
            self.cleanup()

    def cleanup(self) -> None:
        """End the workers, remove temporary files and what `add_to_clean` was told."""
        with ExitStack() as stack:
            stack.push(self._resources.pop_all())
            for folder in self._to_clean:
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.callback(self._to_clean.clear)
            stack.callback(self.reset_registries)
            stack.callback(self.cluster.cleanup)

    # What the program tells

    def add_to_clean(self, tmp_dir: str | os.PathLike[str]) -> None:
        """Have this folder removed when all is done."""
        self._to_clean.append(checked_path("tmp_dir", tmp_dir))

    def get_conf(self) -> dict[str, Any]:
        """Return the configuration in force: every key; ``auto`` is the mode that it stands for."""
        return self._config.model_dump(exclude_none=True)

    def add_to_save_lists(  # noqa: PLR0913, PLR0917 - the signature that programs call
        self,
        file_name: str | os.PathLike[str],
        tag: str,
        cars_ds: CarsDataset,
        dtype: str = "float32",
        nodata: float | None = 0,
        cars_ds_name: str | None = None,
        optional_data: bool = False,
        save_points_cloud_by_pair: bool = False,
        *,
        options: SaveOptions | None = None,
    ) -> None:
        """Have a CarsDataset saved in a file; in several, by as many calls.

        Parameters
        ----------
        file_name : path
            Its ending says the format: see docs/reference/formats.md.
        tag : str
            Variable of arrays to save; points and dict are saved whole.
        cars_ds : CarsDataset
            What to save.
        dtype, nodata : optional
            Of arrays. Whole numbers are rounded; a value that cannot be held is an error.
        cars_ds_name : str, optional
            What messages, manifests and events call it.
        optional_data : bool
            Whether tiles may lack the tag: without it, that is warned of, once.
        save_points_cloud_by_pair : bool
            Whether points go in one file per stereo pair, ``points_<pair>.laz``: see
            docs/reference/formats.md.
        options : SaveOptions, optional
            How the file is written: compression, blocks, tags and so on.

        Raises
        ------
        ConfigurationError
            Naming each argument that is wrong.
        """
        spec = OutputSpec(
            file_name=file_name,
            tag=tag,
            dtype=dtype,
            nodata=nodata,
            optional_data=optional_data,
            save_points_cloud_by_pair=save_points_cloud_by_pair,
            options=options,
        )
        problems = spec_problems(spec, cars_ds, cars_ds_name) or self._taken(file_name)
        if problems:
            raise ConfigurationError(problems)
        self._registry.add_to_save(cars_ds, cars_ds_name, spec)

    def _taken(self, file_name: str | os.PathLike[str]) -> list[str]:
        path = os.path.realpath(file_name)
        if path not in map(os.path.realpath, self._registry.output_names()):
            return []
        return [f"file_name: {os.fspath(file_name)!r} is already the output of another call"]

    def add_to_replace_lists(self, cars_ds: TileGrid, cars_ds_name: str | None = None) -> None:
        """Have delayed objects replaced by their values in this process; by None if they fail."""
        check_dataset(cars_ds, cars_ds_name)
        self._registry.add(cars_ds, cars_ds_name).replaced = True

    def add_to_compute_lists(self, cars_ds: TileGrid, cars_ds_name: str | None = None) -> None:
        """Have the tiles of `cars_ds` computed, for what their tasks do."""
        check_dataset(cars_ds, cars_ds_name)
        self._registry.add(cars_ds, cars_ds_name)

    def update_out_info(self, new_dict: Mapping[str, Any]) -> None:
        """Merge `new_dict` in `out_json`, dictionary by dictionary."""
        merge(self.out_json, checked_mapping("new_dict", new_dict))

    def update_index(self, new_dict: Mapping[str, Any]) -> None:
        """Merge `new_dict` in the index of products, whose keys are folders of `out_dir`.

        Each has its part as ``<out_dir>/<product>/index.yaml``, written when tiles are saved.
        """
        merge(self.product_index, checked_mapping("new_dict", new_dict))

    def save_out_json(self) -> None:
        """Write `out_json` where `out_json_path` says, if it says."""
        if self.out_json_path is None:
            return
        write_document(self.out_json_path, self.out_json)

    def save_index(self) -> None:
        """Write the index of each product, where there is an `out_dir`."""
        for product, index in self.product_index.items() if self.out_dir else ():
            write_document(Path(self.out_dir or "") / product / INDEX_FILE, index)

    def get_saving_infos(self, cars_ds_list: Sequence[TileGrid]) -> list[dict[str, Any]]:
        """Return what tiles of each CarsDataset carry, so that they are known; one dict each."""
        datasets = checked_list("cars_ds_list", cars_ds_list)
        return [{DATASET_KEY: self._registry.id_of(each)} for each in datasets]

    def get_data(self, tag: str, future_object: Any) -> Any:
        """Return what is already on disk at the window of a tile.

        Parameters
        ----------
        tag : str
            As given to `add_to_save_lists`.
        future_object : xarray.Dataset
            A tile with its window and saving information.

        Returns
        -------
        array or None
            (rows, columns), or with bands first; None where nothing is written yet.
        """
        saving_info = checked_attributes("future_object", future_object).get(SAVING_INFO) or {}
        entry = self._registry.entry(saving_info.get(DATASET_KEY, -1))
        return None if entry.saver is None else entry.saver.read(tag, future_object)

    # Computing

    def breakpoint(self) -> None:
        """Compute all that is registered, save and replace it, and forget it.

        Raises
        ------
        TilesFailedError
            Naming the tiles that are missing, after all others were saved; with
            ``on_tile_failure: continue``, that is a warning.
        DiskFullError
            When a disk is full.
        """
        if not self.launch_worker:
            return
        try:
            self.compute_futures()
            lacking = self._run is not None and bool(self._run.failures)
            end_well(self._registry.savers(), self._record, lacking=lacking)
        except BaseException as exc:
            self._profile.fail(exc)
            self._end_early(exc)
            raise
        finally:
            self._record.close()
            self.reset_registries()
        self.save_out_json()
        self.save_index()
        self._tell_failures()

    def _end_early(self, error: BaseException) -> None:
        """Keep what is done; where a disk is full, raise that instead."""
        done, total = (0, 0) if self._run is None else (self._run.done, self._run.total)
        savers = self._registry.savers()
        folders = {folder for saver in savers for folder in saver.folders()}
        folders |= {self._folder or shared_memory_folder(), shared_memory_folder()}
        full = disk_full_error(error, folders, done, total)
        if full is not None:
            self.cluster.cleanup()  # what it holds may be what is lacking
        end_early(savers, self._record, full or error)
        if full is not None:
            raise full from error

    def _tell_failures(self) -> None:
        run, self._run = self._run, None
        error = None if run is None else run.error()
        if error is None:
            return
        self.failures += error.failures
        if self._config.on_tile_failure == "raise":
            self._profile.fail(error)
            raise error
        LOG.warning("%s", error)

    def compute_futures(self, only_remaining_delayed: list[Any] | None = None) -> None:
        """Compute what is registered and deliver it; what fails is computed once more.

        Parameters
        ----------
        only_remaining_delayed : list, optional
            What is left for a second run; None is everything.
        """
        if only_remaining_delayed is None:
            self._compute_all()
        elif self._run is not None:
            unfinished = self._run.compute(self.cluster, only_remaining_delayed)
            self._run.give_up(unfinished.hopeless + unfinished.causes)
            if unfinished.stalled:
                self.reset_cluster()

    def _compute_all(self) -> None:
        self._record = self._new_record()
        run = TileRun(
            self._registry, self.cluster.delayed_type, self._notify, self._finished, self._record
        )
        self._run = run
        self._profile.take_places(self.cluster, self._registry)
        try:
            run.start()
            unfinished = run.compute(self.cluster, run.delayed)
            run.give_up(unfinished.hopeless)
            if unfinished.causes:
                if unfinished.stalled:
                    self.reset_cluster()
                run.retry(unfinished)
                self.compute_futures(only_remaining_delayed=unfinished.delayed)
        finally:
            run.end()

    def _new_record(self) -> RunRecord | NoRecord:
        if self._kept is None:
            return NoRecord()
        self._runs += 1
        return RunRecord(self._kept.path, self._runs, self._registry)

    def _finished(self, entry: Registered, tile: Any) -> Any:
        final = entry.dataset.final_function if entry.saver is not None else None
        return tile if final is None else final(self, tile)

    def _notify(self, event: Event) -> None:
        with ExitStack() as all_are_told:  # whatever one of them raises
            for observer in reversed(self._observers):
                all_are_told.callback(observer.on_event, event)

    def reset_cluster(self) -> None:
        """End the workers and start new ones; what was computed and not saved is lost."""
        LOG.warning("the cluster is restarted")
        self.cluster.cleanup()
        self.cluster = self._new_cluster()

    def reset_registries(self) -> None:
        """Forget the CarsDatasets that are registered."""
        self._registry.clear()
