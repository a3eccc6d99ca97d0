"""Replaces `cars.orchestrator.orchestrator`: our orchestrator with the interface of CARS."""

import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final

import pandas as pd
import xarray as xr
from cars.core import constants as cst

from batuta.cluster import AbstractCluster
from batuta.compat.cars.configuration import translate_configuration
from batuta.compat.cars.datasets import SAVED_TYPES, CarsFileOptions, SavedCarsDataset
from batuta.compat.cars.logs import forward_to_cars
from batuta.compat.cars.progress import CarsProgress
from batuta.datasets.tiles import ATTRIBUTES, SAVING_INFO
from batuta.errors import ConfigurationError
from batuta.orchestrator import Orchestrator as BatutaOrchestrator
from batuta.orchestrator import SingleCarsDatasetSaver, update_saving_infos
from batuta.orchestrator.orchestrator import DATASET_KEY
from batuta.orchestrator.registry import CarsDatasetRegistry, RegisteredDataset
from batuta.orchestrator.saver import OutputSpec

__all__ = ["Orchestrator", "get_disparity_range_cropped", "update_saving_infos"]

LOG: Final = logging.getLogger(__name__)

RAM: Final = "max_ram_per_worker"


class Orchestrator(BatutaOrchestrator):
    """Our orchestrator, with the arguments and the return values of that of CARS.

    Parameters
    ----------
    orchestrator_conf : mapping, optional
        As in the documentation of CARS.
    out_dir : path, optional
        Folder of products, logs and temporary files. Default: a temporary folder.
    log_dir : path, optional
        Ignored. The logs are in `out_dir`: ``batuta.log`` and ``workers_log``.
    launch_worker : bool
        False to create and check tasks without computing anything.
    out_yaml_path : path, optional
        Where `out_yaml` is saved.
    """

    def __init__(
        self,
        orchestrator_conf: Mapping[str, Any] | None = None,
        out_dir: str | os.PathLike[str] | None = None,
        log_dir: str | os.PathLike[str] | None = None,  # noqa: ARG002 - CARS passes it
        launch_worker: bool = True,
        out_yaml_path: str | os.PathLike[str] | None = None,
    ) -> None:
        forward_to_cars()
        self._file_options: dict[str, CarsFileOptions] = {}
        self._cropped = False
        self._progress = CarsProgress()
        conf = translate_configuration(orchestrator_conf)
        # CARS computes the size of its tiles from it, in every mode.
        self._ram_mb = conf.pop(RAM, None) if conf["mode"] == "sequential" else None
        with ExitStack() as if_refused:
            to_clean = []
            if out_dir is None and launch_worker:
                out_dir = tempfile.mkdtemp(prefix="cars-")
                to_clean.append(out_dir)
                if_refused.callback(shutil.rmtree, out_dir)
            super().__init__(
                conf,
                out_dir,
                launch_worker,
                out_yaml_path,
                observers=(self._progress,),
                progress_bar=False,
            )
            if_refused.pop_all()
        self._registry = CarsDatasetRegistry(self._new_saver)
        for folder in to_clean:
            self.add_to_clean(folder)

    def _new_saver(self, dataset: Any, name: str) -> SingleCarsDatasetSaver:
        return SingleCarsDatasetSaver(SavedCarsDataset(dataset, self._file_options), name)

    def _new_cluster(self) -> AbstractCluster:
        cluster = super()._new_cluster()
        if self._ram_mb is not None:
            cluster.checked_conf_cluster[RAM] = self._ram_mb
        return cluster

    # What CARS reads

    def get_conf(self) -> dict[str, Any]:
        """Return the configuration in force, valid for another orchestrator too."""
        return super().get_conf() | {RAM: self.cluster.checked_conf_cluster[RAM]}

    @property
    def out_yaml(self) -> dict[str, Any]:
        """Information about the product; the same dictionary for the whole run."""
        return self.out_json

    def set_target_task(self, task_id: int | None) -> None:
        """Set which progress bar of CARS the next tiles advance."""
        self._progress.task_id = task_id

    def get_data(self, tag: str, future_object: Any) -> tuple[Any, float | None]:
        """Read what is already saved at the window of a tile, and its nodata.

        Returns
        -------
        array or None
            (bands, rows, columns); None if nothing is written yet.
        float or None
            The value of pixels without data.
        """
        output = self._output_of(tag, future_object)
        data = super().get_data(tag, future_object)
        return (None, None) if output is None or data is None else (data, output.nodata)

    # What CARS registers

    def add_to_save_lists(  # type: ignore[override]  # noqa: PLR0913, PLR0917 - CARS's own signature
        self,
        file_name: str | os.PathLike[str],
        tag: str,
        cars_ds: Any,
        dtype: Any = "float32",
        nodata: float | None = 0,
        cars_ds_name: str | None = None,
        optional_data: bool = False,
        save_by_pair: bool = False,
        rio_tags: Any = None,
        rio_band_description: Any = None,
        nbits: int | None = None,
    ) -> None:
        """Register a CarsDataset of CARS to be saved by CARS in a file, or a folder for points.

        Raises
        ------
        ConfigurationError
            For a type of dataset that CARS does not save, or a file that is already an output.
        """
        if cars_ds.dataset_type not in SAVED_TYPES:
            raise ConfigurationError(
                f"cars_ds: a dataset of type {cars_ds.dataset_type} given,"
                f" one of {' or '.join(SAVED_TYPES)} expected: CARS saves no other"
            )
        if problems := self._already_used(file_name):
            raise ConfigurationError(problems)
        self._file_options[os.fspath(file_name)] = CarsFileOptions(
            save_by_pair=save_by_pair,
            rio_tags=rio_tags,
            rio_band_description=rio_band_description,
            nbits=nbits,
        )
        spec = OutputSpec(
            file_name=file_name, tag=tag, dtype=dtype, nodata=nodata, optional_data=optional_data
        )
        self._registry.add_to_save(cars_ds, cars_ds_name, spec)

    def _output_of(self, tag: str, tile: Any) -> OutputSpec | None:
        saver = self._registry.entry(tile.attrs[SAVING_INFO][DATASET_KEY]).saver
        outputs = [] if saver is None else saver.outputs
        return next((each.spec for each in outputs if each.spec.tag == tag), None)

    def reset_registries(self) -> None:
        """Clear the registry, and the options of its files."""
        super().reset_registries()
        self._file_options.clear()

    # Computing

    def breakpoint(self) -> bool:  # type: ignore[override]  # CARS expects an answer
        """Compute, save and replace everything that is registered, then clear the registry.

        Returns
        -------
        bool
            Whether the disparity range of a tile was cropped, for lack of memory.
        """
        self._cropped = False
        super().breakpoint()
        return self._cropped

    def _report_missing(self, variables: list[str]) -> None:
        """Warn only, as CARS does: some of its programs name variables that no tile has."""
        for line in variables:
            LOG.warning("%s", line)

    def _finalize_tile(self, entry: RegisteredDataset, tile: Any) -> Any:
        self._cropped = self._cropped or get_disparity_range_cropped(tile)
        return super()._finalize_tile(entry, tile)


def get_disparity_range_cropped(obj: Any) -> bool:
    """Whether the disparity range of a tile was cropped."""
    if not isinstance(obj, xr.Dataset | pd.DataFrame):
        return False
    return bool(obj.attrs.get(ATTRIBUTES, {}).get(cst.CROPPED_DISPARITY_RANGE, False))
