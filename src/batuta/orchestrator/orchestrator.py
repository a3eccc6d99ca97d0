"""The orchestrator: computes the tiles of a program's datasets, and saves them in files."""

import logging
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from batuta.cluster import AbstractCluster, check_configuration, create_cluster
from batuta.cluster.contract import (
    ReportsTaskMetrics,
    ReportsTileStarts,
    ReportsWorkerCount,
    WorkerCount,
)
from batuta.cluster.main_script import leave_if_imported_by_worker
from batuta.cluster.tile_activity import TileCosts, TileStart
from batuta.datasets import SaveOptions
from batuta.datasets.cars_dataset import CarsDataset
from batuta.datasets.tiles import SAVING_INFO
from batuta.errors import ConfigurationError
from batuta.orchestrator.arguments import (
    absolute_path,
    check_dataset,
    check_output_paths,
    checked_attributes,
    checked_list,
    checked_mapping,
    checked_observers,
    make_folder,
    spec_problems,
)
from batuta.orchestrator.contract import TileGrid
from batuta.orchestrator.disk import disk_full_error, own_writes
from batuta.orchestrator.display import OutputReport, orchestrator_html
from batuta.orchestrator.documents import INDEX_FILE, merge, write_document
from batuta.orchestrator.errors import MissingVariableError, TileFailure
from batuta.orchestrator.events import Event, Observer, WorkersPresent
from batuta.orchestrator.finalize import abort_run, complete_run
from batuta.orchestrator.logs import MainLog
from batuta.orchestrator.registry import CarsDatasetRegistry, RegisteredDataset
from batuta.orchestrator.resume.folder import ResumeFolder, check_resumable, open_resume_folder
from batuta.orchestrator.resume.run_record import NullRecord, RunRecord
from batuta.orchestrator.saver import OutputSpec
from batuta.orchestrator.saving_infos import DATASET_KEY, flatten_object, update_saving_infos
from batuta.orchestrator.screen import ON_SCREEN, ProgressBar, is_terminal
from batuta.orchestrator.tile_run import TileRun

__all__ = ["DATASET_KEY", "Orchestrator", "flatten_object", "update_saving_infos"]

LOG: Final = logging.getLogger(__name__)


class Orchestrator:
    """Computes registered CarsDatasets tile by tile, and saves them.

    Programs create tasks with ``orchestrator.cluster.create_task``, put the delayed objects in
    CarsDatasets, and register these to be saved, replaced or only computed. Everything is
    computed at `breakpoint`, or when the ``with`` block ends; if the block raises, nothing more
    is computed. A tile that fails is computed once more after the others.

    Parameters
    ----------
    orchestrator_conf : mapping, optional
        The mode and its keys; see docs/reference/orchestrator.md. Default: ``{"mode": "auto"}``.
    out_dir : path, optional
        Folder of logs and temporary files. Created if it does not exist.
    launch_worker : bool
        False to create and check tasks without computing anything.
    out_json_path : path, optional
        Where `out_json` is saved, as JSON, or as YAML for a suffix ``.yaml``.
    observers : iterable of Observer
        Called with each event; see `batuta.orchestrator.events`.
    progress_bar : bool
        False if the program shows progress by an observer of its own.

    Attributes
    ----------
    cluster : AbstractCluster
        The cluster that runs the tasks.
    out_json : dict
        Information about the product, set by `update_out_info`.
    product_index : dict
        Index of each product, set by `update_index`.
    failures : list of TileFailure
        The missing tiles of all runs so far.

    Raises
    ------
    ConfigurationError
        With one line per error in the configuration.
    TilesFailedError
        From `breakpoint` and the end of the block: if tiles failed twice, once everything else
        is saved; with ``on_tile_failure: continue``, a warning instead.
    MissingVariableError
        From the same: if no tile has a variable that is to be saved, and is not optional.
    DiskFullError
        From the same: computing stops, and the tiles that are done are kept.
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
        # Here: the description of a profile takes pydantic, as does the check of a configuration.
        from batuta.orchestrator.run_profile import RunProfile, check_profiled  # noqa: PLC0415

        leave_if_imported_by_worker()  # before any file is touched
        self._config = check_configuration(orchestrator_conf)
        check_output_paths(out_dir, out_json_path)
        if launch_worker:
            check_profiled(self._config, out_dir)
        self.out_dir = None if out_dir is None else os.fspath(out_dir)
        self._folder = None if out_dir is None else absolute_path("out_dir", out_dir)
        self.launch_worker = launch_worker
        self.out_json_path = (
            None if out_json_path is None else absolute_path("out_json_path", out_json_path)
        )
        self.out_json: dict[str, Any] = {}
        self.product_index: dict[str, Any] = {}
        own_observers = checked_observers(observers)
        self._registry = CarsDatasetRegistry()
        self._to_clean: list[Path] = []
        self.failures: list[TileFailure] = []
        self._reports: list[OutputReport] = []
        """Of the files of all runs so far, for notebooks."""
        self._tile_run: TileRun | None = None
        self._record: RunRecord | NullRecord = NullRecord()
        self._run_count = 0
        self._waiting_for = ""
        self._costs = TileCosts()
        self._tells_costs = bool(own_observers)
        with ExitStack() as stack:
            self._resume_folder: ResumeFolder | None = None
            if launch_worker:
                if self._folder is not None:
                    make_folder(self._folder)
                self._resume_folder = open_resume_folder(self._folder, resume=self._config.resume)
                if self._resume_folder is not None:
                    stack.callback(self._resume_folder.close)
                stack.callback(MainLog(self._folder).close)
            self._profile = RunProfile(self._config, self._folder if launch_worker else None)
            stack.callback(self._profile.close)
            bar = [ProgressBar()] if progress_bar else []
            self._observers: tuple[Observer, ...] = (self._profile, *bar, *own_observers)
            self.cluster: AbstractCluster = self._new_cluster()
            stack.callback(self.cluster.cleanup)
            if self._resume_folder is not None:
                check_resumable(self._config.mode, self.cluster.delayed_type)
            self._resources = stack.pop_all()

    def _new_cluster(self) -> AbstractCluster:
        cluster = create_cluster(self._config, self._folder, launch_worker=self.launch_worker)
        if isinstance(cluster, ReportsWorkerCount):
            cluster.on_workers = self._on_workers
        if isinstance(cluster, ReportsTileStarts):
            cluster.on_tile_start = self._on_tile_start
        if self._tells_costs and isinstance(cluster, ReportsTaskMetrics):
            cluster.task_metrics.tile_costs = self._costs
        self._profile.attach(cluster)
        return cluster

    def _on_workers(self, count: WorkerCount) -> None:
        if count.waiting_for != self._waiting_for:
            self._waiting_for = count.waiting_for
            if self._waiting_for and not is_terminal(sys.stderr):  # a terminal has the bar
                message = f"{count.present} of {count.asked} workers: {count.waiting_for}"
                LOG.info(message, extra=ON_SCREEN)
        self._notify(WorkersPresent(count.present, count.asked, count.waiting_for))

    def _on_tile_start(self, start: TileStart) -> None:
        if self._tile_run is not None:
            self._tile_run.on_tile_start(start)

    def __repr__(self) -> str:
        where = "" if self.out_dir is None else f", out_dir={self.out_dir!r}"
        return f"<Orchestrator: {self._config.mode}{where}>"

    def _repr_html_(self) -> str:
        planned = [
            OutputReport(each.manifest.file, each.manifest.dataset_name, each.manifest.expected)
            for saver in self._registry.savers()
            for each in saver.outputs
        ]
        return orchestrator_html(
            self._config.mode, self._folder, [*self._reports, *planned], self.failures
        )

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
                self._profile.record_error(exc_value)
        finally:
            self.cleanup()

    def cleanup(self) -> None:
        """Stop the workers, and remove temporary files and the folders of `add_to_clean`."""
        with ExitStack() as stack:
            stack.push(self._resources.pop_all())
            for folder in self._to_clean:
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.callback(self._to_clean.clear)
            stack.callback(self.reset_registries)
            stack.callback(self.cluster.cleanup)

    # Registration

    def add_to_clean(self, tmp_dir: str | os.PathLike[str]) -> None:
        """Remove this folder when the orchestrator is cleaned up."""
        self._to_clean.append(absolute_path("tmp_dir", tmp_dir))

    def get_conf(self) -> dict[str, Any]:
        """Return the configuration in force, with every key; ``auto`` is resolved to a mode."""
        return self._config.as_dict()

    def add_to_save_lists(  # noqa: PLR0913, PLR0917 - the signature that programs call
        self,
        file_name: str | os.PathLike[str],
        tag: str,
        cars_ds: CarsDataset,
        dtype: str | None = "float32",
        nodata: float | None = 0,
        cars_ds_name: str | None = None,
        optional_data: bool = False,
        save_points_cloud_by_pair: bool = False,
        *,
        options: SaveOptions | None = None,
    ) -> None:
        """Register a CarsDataset to be saved in a file. Call it once per file.

        Parameters
        ----------
        file_name : path
            Its suffix selects the format: see docs/reference/formats.md.
        tag : str
            Variable to save, of arrays; points and dict are saved whole.
        cars_ds : CarsDataset
            The dataset to save.
        dtype, nodata : optional
            Of arrays. Values are rounded for an integer type; one out of range is an error. None
            is the data type of the first tile.
        cars_ds_name : str, optional
            Its name in messages, manifests and events.
        optional_data : bool
            Whether tiles may lack the tag. If not, the first tile that lacks it is warned of, and
            it is an error if no tile has it.
        save_points_cloud_by_pair : bool
            Whether points are saved in one file per stereo pair, ``points_<pair>.laz``: see
            docs/reference/formats.md.
        options : SaveOptions, optional
            Compression, blocks, tags and other options of the file.

        Raises
        ------
        ConfigurationError
            Naming each invalid argument.
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
        if problems := spec_problems(spec, cars_ds, cars_ds_name):
            raise ConfigurationError(problems)
        # Absolute from here on: the program may change its folder before the file is written.
        spec = replace(spec, file_name=absolute_path("file_name", file_name))
        if problems := self._already_used(file_name):
            raise ConfigurationError(problems)
        self._registry.add_to_save(cars_ds, cars_ds_name, spec)

    def _already_used(self, file_name: str | os.PathLike[str]) -> list[str]:
        path = os.path.realpath(file_name)
        if path not in map(os.path.realpath, self._registry.output_names()):
            return []
        return [f"file_name: {os.fspath(file_name)!r} is already the output of another call"]

    def add_to_replace_lists(self, cars_ds: TileGrid, cars_ds_name: str | None = None) -> None:
        """Register `cars_ds`: delayed objects are replaced by their values, or None on failure."""
        check_dataset(cars_ds, cars_ds_name)
        self._registry.add(cars_ds, cars_ds_name).replaced = True

    def add_to_compute_lists(self, cars_ds: TileGrid, cars_ds_name: str | None = None) -> None:
        """Register `cars_ds`: its tiles are computed for the side effects of their tasks."""
        check_dataset(cars_ds, cars_ds_name)
        self._registry.add(cars_ds, cars_ds_name)

    def update_out_info(self, new_dict: Mapping[str, Any]) -> None:
        """Merge `new_dict` into `out_json` recursively."""
        merge(self.out_json, checked_mapping("new_dict", new_dict))

    def update_index(self, new_dict: Mapping[str, Any]) -> None:
        """Merge `new_dict` into the index of products, whose keys are folders of `out_dir`.

        The part of each is written to ``<out_dir>/<product>/index.yaml`` at each `breakpoint`.
        """
        merge(self.product_index, checked_mapping("new_dict", new_dict))

    def save_out_json(self) -> None:
        """Write `out_json` to `out_json_path`, if there is one."""
        if self.out_json_path is None:
            return
        write_document(self.out_json_path, self.out_json)

    def save_index(self) -> None:
        """Write the index of each product, if there is an `out_dir`."""
        if self._folder is None:
            return
        for product, index in self.product_index.items():
            write_document(self._folder / product / INDEX_FILE, index)

    def get_saving_infos(self, cars_ds_list: Sequence[TileGrid]) -> list[dict[str, Any]]:
        """Return the saving information of each CarsDataset, for its tiles to carry."""
        datasets = checked_list("cars_ds_list", cars_ds_list)
        return [{DATASET_KEY: self._registry.id_of(each)} for each in datasets]

    def get_data(self, tag: str, future_object: Any) -> Any:
        """Read what is already saved at the window of a tile.

        Parameters
        ----------
        tag : str
            As passed to `add_to_save_lists`.
        future_object : xarray.Dataset
            A tile with its window and saving information.

        Returns
        -------
        array or None
            (rows, columns), or with bands first; None if nothing is written yet.
        """
        saving_info = checked_attributes("future_object", future_object).get(SAVING_INFO) or {}
        entry = self._registry.entry(saving_info.get(DATASET_KEY, -1))
        return None if entry.saver is None else entry.saver.read(tag, future_object)

    # Computing

    def breakpoint(self) -> None:
        """Compute, save and replace everything that is registered, then clear the registry.

        Raises
        ------
        TilesFailedError
            Naming the missing tiles, once all others are saved; with
            ``on_tile_failure: continue``, a warning instead.
        MissingVariableError
            Naming each variable that no tile has, and those that they have.
        DiskFullError
            If a disk is full.
        """
        if not self.launch_worker:
            return
        try:
            self.compute_futures()
            missing = self._tile_run is not None and bool(self._tile_run.failures)
            with own_writes(self._output_folders):
                complete_run(self._registry.savers(), self._record, tiles_missing=missing)
            missing_variables = [
                line for saver in self._registry.savers() for line in saver.missing_variables()
            ]
        except BaseException as exc:
            self._profile.record_error(exc)
            self._abort(exc)
            raise
        finally:
            self._reports += [
                OutputReport.of(each.manifest)
                for saver in self._registry.savers()
                for each in saver.outputs
            ]
            self._record.close()
            self.reset_registries()
        self.save_out_json()
        self.save_index()
        self._report_failures(missing_variables)

    def _abort(self, error: BaseException) -> None:
        """Keep what is done; if the cause is a full disk, raise `DiskFullError` instead."""
        done, total = (
            (0, 0) if self._tile_run is None else (self._tile_run.done, self._tile_run.total)
        )
        full = disk_full_error(error, done, total)
        if full is not None:
            # Before the files are closed: results of tasks may take the space that this needs.
            self.cluster.cleanup()
        abort_run(self._registry.savers(), self._record, full or error)
        if full is not None:
            raise full from error

    def _output_folders(self) -> set[Path]:
        return {folder for saver in self._registry.savers() for folder in saver.folders()}

    def _report_failures(self, missing_variables: list[str]) -> None:
        run, self._tile_run = self._tile_run, None
        failed = None if run is None else run.error()
        if failed is not None:
            self.failures += failed.failures
            if self._config.on_tile_failure == "raise":
                # Tiles that failed may have the variable: that comes first.
                for line in missing_variables:
                    failed.add_note(line)
                self._raise(failed)
            LOG.warning("%s", failed)
        if missing_variables:
            self._report_missing(missing_variables)

    def _report_missing(self, variables: list[str]) -> None:
        self._raise(MissingVariableError(variables))

    def _raise(self, error: Exception) -> NoReturn:
        self._profile.record_error(error)
        raise error

    def compute_futures(self, only_remaining_delayed: list[Any] | None = None) -> None:
        """Compute and deliver what is registered; compute once more what fails.

        Parameters
        ----------
        only_remaining_delayed : list, optional
            What to compute in a second pass. Default: everything.
        """
        if only_remaining_delayed is None:
            self._compute_all()
        elif self._tile_run is not None:
            unfinished = self._tile_run.compute(self.cluster, only_remaining_delayed)
            self._tile_run.fail(unfinished.permanent + unfinished.retryable)
            if unfinished.stalled:
                self.reset_cluster()

    def _compute_all(self) -> None:
        self._record = self._new_record()
        run = TileRun(
            self._registry,
            self.cluster.delayed_type,
            self._notify,
            self._finalize_tile,
            self._record,
            self._costs,
        )
        self._tile_run = run
        self._profile.record_tile_places(self.cluster, self._registry)
        try:
            run.start()
            unfinished = run.compute(self.cluster, run.delayed)
            run.fail(unfinished.permanent)
            if unfinished.retryable:
                if unfinished.stalled:
                    self.reset_cluster()
                run.report_retries(unfinished)
                self.compute_futures(only_remaining_delayed=unfinished.delayed)
        finally:
            run.report_end()

    def _new_record(self) -> RunRecord | NullRecord:
        if self._resume_folder is None:
            return NullRecord()
        self._run_count += 1
        return RunRecord(self._resume_folder.path, self._run_count, self._registry)

    def _finalize_tile(self, entry: RegisteredDataset, tile: Any) -> Any:
        final = entry.dataset.final_function if entry.saver is not None else None
        return tile if final is None else final(self, tile)

    def _notify(self, event: Event) -> None:
        # Through a stack, so that every observer is called even if one of them raises. It calls
        # the last first, hence the reversed order.
        with ExitStack() as stack:
            for observer in reversed(self._observers):
                stack.callback(observer.on_event, event)

    def reset_cluster(self) -> None:
        """Stop the workers and start new ones; what was computed and not saved is lost."""
        LOG.warning("restarting the cluster")
        self.cluster.cleanup()
        self.cluster = self._new_cluster()

    def reset_registries(self) -> None:
        """Clear the registry of CarsDatasets."""
        self._registry.clear()
